#!/bin/sh
# Installs the agent on a vehicle's computer, or takes it away again.
#
#   install.sh install      environment, files, user; enables and starts the service
#   install.sh files        the files alone (for an image that is built elsewhere)
#   install.sh uninstall    all but the configuration, the records and the user
#
# DESTDIR=/image   put everything below another root; nothing of the running system is touched
# WHEELS=/dir      install from wheels in this folder instead of a package index
# PYTHON=python3   what to make the environment with, 3.11 or later
set -eu

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${DESTDIR:-}
root=${root%/}
prefix=/opt/mdt
python=${PYTHON:-python3}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# File of the source tree, place on the vehicle. Both ways, so that uninstall can not forget one.
each_file() {
    "$@" systemd/mdt.service /etc/systemd/system/mdt.service
    "$@" systemd/mdt-poweroff.path /etc/systemd/system/mdt-poweroff.path
    "$@" systemd/mdt-poweroff.service /etc/systemd/system/mdt-poweroff.service
    "$@" systemd/60-mdt.rules /etc/udev/rules.d/60-mdt.rules
    "$@" systemd/80-mdt-can0.network /etc/systemd/network/80-mdt-can0.network
    "$@" systemd/mdt.sysusers /etc/sysusers.d/mdt.conf
    "$@" systemd/mdt.tmpfiles /etc/tmpfiles.d/mdt.conf
    "$@" systemd/journald-mdt.conf /etc/systemd/journald.conf.d/50-mdt.conf
    "$@" systemd/watchdog-mdt.conf /etc/systemd/system.conf.d/50-mdt-watchdog.conf
    "$@" docs/install.md "$prefix/share/doc/install.md"
    "$@" docs/button-box.md "$prefix/share/doc/button-box.md"
}

put_file() { install -D -m 0644 "$source/$1" "$root$2"; }
drop_file() { rm -f "$root$2"; }

live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Made beside the environment that is in use, which the agent keeps running on until the new one is complete.
put_environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11"
    fresh=$root$prefix.new
    "$python" -m venv --clear --prompt mdt "$fresh"
    set -- --quiet --disable-pip-version-check --no-cache-dir --no-compile
    [ -z "${WHEELS:-}" ] || set -- "$@" --no-index --find-links "$WHEELS"
    "$fresh/bin/pip" install "$@" --require-hashes -r "$source/requirements.lock"
    # Built from a copy: building leaves things behind, which would be root's in a checkout that is not. And with what
    # the lock names, in an environment that goes away: left to itself pip would fetch, as root, whatever is newest.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/source"
    cp -R "$source/agent" "$source/firmware_shims" "$source/pyproject.toml" "$source/README.md" "$copy/source/"
    # Dispatch's end has no place in a vehicle, nor have its commands.
    rm -rf "$copy/source/agent/dispatch"
    sed -i '/^mdt-dispatch = /d; /^mdt-pki = /d' "$copy/source/pyproject.toml"
    "$python" -m venv "$copy/builder"
    "$copy/builder/bin/pip" install "$@" --require-hashes -r "$source/requirements-build.lock"
    "$copy/builder/bin/pip" wheel --quiet --disable-pip-version-check --no-index --no-build-isolation --no-deps \
        --wheel-dir "$copy/wheels" "$copy/source"
    "$fresh/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-index --no-deps \
        "$copy"/wheels/*.whl
    # Scripts carry the path they were made at.
    grep -rlIF "$fresh" "$fresh/bin" "$fresh/pyvenv.cfg" | while read -r script; do
        sed -i "s|$fresh|$prefix|g" "$script"
    done
    # The service may not write there; compiled now, it starts in a fraction of the time.
    "$fresh/bin/python" -m compileall -q -f -s "$fresh" -p "$prefix" "$fresh/lib" >/dev/null || true
    rm -rf "$root$prefix.old"
    [ ! -e "$root$prefix" ] || mv "$root$prefix" "$root$prefix.old"
    mv "$fresh" "$root$prefix"
    rm -rf "$root$prefix.old"
}

put_files() {
    each_file put_file
    # What a person edits is never overwritten.
    (cd "$source/config" && find agent.toml vehicles -type f 2>/dev/null) | while read -r name; do
        [ -e "$root/etc/mdt/$name" ] || install -D -m 0640 "$source/config/$name" "$root/etc/mdt/$name"
        install -D -m 0644 "$source/config/$name" "$root$prefix/share/config/$name"
    done
}

activate() {
    systemd-sysusers mdt.conf
    systemd-tmpfiles --create mdt.conf
    udevadm control --reload
    udevadm trigger --subsystem-match=tty --subsystem-match=gpio
    systemctl daemon-reload
    systemctl try-reload-or-restart systemd-networkd.service systemd-journald.service
    systemctl enable mdt.service
    if "$prefix/bin/mdt" check-config /etc/mdt/agent.toml; then
        systemctl restart mdt.service
        say "The agent runs: \`systemctl status mdt\`, \`$prefix/bin/mdt status\`."
    else
        say "Installed, not started: mend /etc/mdt/agent.toml, then \`systemctl start mdt\`."
    fi
}

deactivate() {
    systemctl disable --now mdt-poweroff.path mdt.service 2>/dev/null || true
}

case ${1:-} in
install | uninstall)
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root can do that; or give DESTDIR"
    ;;
esac

case ${1:-} in
install)
    put_environment
    put_files
    if live; then activate; else say "Installed below ${root:-/}."; fi
    ;;
files)
    put_files
    ;;
uninstall)
    if live; then deactivate; fi
    each_file drop_file
    rm -rf "$root$prefix" "$root$prefix.new" "$root$prefix.old"
    if live; then systemctl daemon-reload; udevadm control --reload; fi
    say "Removed. Left: $root/etc/mdt (configuration), $root/var/lib/mdt (records), user mdt."
    ;;
*)
    fail "say install, files or uninstall"
    ;;
esac
