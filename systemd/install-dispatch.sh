#!/bin/sh
# Installs the service on a computer at dispatch, or takes it away again. Never on a vehicle's computer.
#
#   install-dispatch.sh install      environment, files, user; enables and starts the service
#   install-dispatch.sh files        the files alone (for an image that is built elsewhere)
#   install-dispatch.sh uninstall    all but the configuration, the store and the user
#
# DESTDIR=/image   put everything below another root; nothing of the running system is touched
# WHEELS=/dir      install from wheels in this folder instead of a package index
# PYTHON=python3   what to make the environment with, 3.11 or later
set -eu

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${DESTDIR:-}
root=${root%/}
prefix=/opt/mdt-dispatch
python=${PYTHON:-python3}

say() { printf '%s\n' "$*"; }
fail() { printf 'install-dispatch.sh: %s\n' "$*" >&2; exit 1; }

# File of the source tree, place at dispatch. Both ways, so that uninstall can not forget one.
each_file() {
    "$@" systemd/mdt-dispatch.service /etc/systemd/system/mdt-dispatch.service
    "$@" systemd/mdt-dispatch.sysusers /etc/sysusers.d/mdt-dispatch.conf
    "$@" docs/dispatch.md "$prefix/share/doc/dispatch.md"
    "$@" docs/wire-format.md "$prefix/share/doc/wire-format.md"
    "$@" config/broker/README.md "$prefix/share/doc/broker.md"
    "$@" config/broker/mosquitto.conf "$prefix/share/config/broker/mosquitto.conf"
    "$@" config/broker/mdt.acl "$prefix/share/config/broker/mdt.acl"
    "$@" config/dispatch.toml "$prefix/share/config/dispatch.toml"
}

put_file() { install -D -m 0644 "$source/$1" "$root$2"; }
drop_file() { rm -f "$root$2"; }

live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Made beside the environment that is in use, which the service keeps running on until the new one is complete.
put_environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11"
    fresh=$root$prefix.new
    "$python" -m venv --clear --prompt mdt-dispatch "$fresh"
    set -- --quiet --disable-pip-version-check --no-cache-dir --no-compile
    [ -z "${WHEELS:-}" ] || set -- "$@" --no-index --find-links "$WHEELS"
    "$fresh/bin/pip" install "$@" --require-hashes -r "$source/requirements-dispatch.lock"
    # Built from a copy, with what the lock names, in an environment that goes away: left to itself pip would fetch, as
    # root, whatever is newest.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/source"
    cp -R "$source/agent" "$source/firmware_shims" "$source/pyproject.toml" "$source/README.md" "$copy/source/"
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
    "$fresh/bin/python" -m compileall -q -f -s "$fresh" -p "$prefix" "$fresh/lib" >/dev/null || true
    rm -rf "$root$prefix.old"
    [ ! -e "$root$prefix" ] || mv "$root$prefix" "$root$prefix.old"
    mv "$fresh" "$root$prefix"
    rm -rf "$root$prefix.old"
}

put_files() {
    each_file put_file
    # What a person edits is never overwritten.
    [ -e "$root/etc/mdt-dispatch/dispatch.toml" ] ||
        install -D -m 0640 "$source/config/dispatch.toml" "$root/etc/mdt-dispatch/dispatch.toml"
}

activate() {
    systemd-sysusers mdt-dispatch.conf
    chgrp -R mdt-dispatch /etc/mdt-dispatch
    chmod 0750 /etc/mdt-dispatch
    systemctl daemon-reload
    systemctl enable mdt-dispatch.service
    if "$prefix/bin/mdt-dispatch" check --config /etc/mdt-dispatch/dispatch.toml; then
        systemctl restart mdt-dispatch.service
        say "The service runs: \`systemctl status mdt-dispatch\`."
    else
        say "Installed, not started: mend /etc/mdt-dispatch/dispatch.toml, then \`systemctl start mdt-dispatch\`."
    fi
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
    if live; then systemctl disable --now mdt-dispatch.service 2>/dev/null || true; fi
    each_file drop_file
    rm -rf "$root$prefix" "$root$prefix.new" "$root$prefix.old"
    if live; then systemctl daemon-reload; fi
    say "Removed. Left: $root/etc/mdt-dispatch (configuration), $root/var/lib/mdt-dispatch (store), user mdt-dispatch."
    ;;
*)
    fail "say install, files or uninstall"
    ;;
esac
