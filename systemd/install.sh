#!/bin/sh
# Installs the agent on a vehicle's computer, or takes it away again.
#
#   install.sh install      environment, files, user; enables and starts the service
#   install.sh files        the files alone (for an image that is built elsewhere)
#   install.sh uninstall    all but the configuration, the records and the user
#
# PANEL=1          also the crew's touch page (docs/panel.md); once installed it is updated with the agent
# DESTDIR=/image   put everything below another root; nothing of the running system is touched
# WHEELS=/dir      install from wheels in this folder instead of a package index
# PYTHON=python3   what to make the environment with, 3.11 or later
set -eu

program=mdt
. "$(dirname -- "$0")/environment.sh"

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

# The crew's page, where it is wanted or was.
each_panel_file() {
    "$@" systemd/mdt-panel.service /etc/systemd/system/mdt-panel.service
    "$@" docs/panel.md "$prefix/share/doc/panel.md"
}
panel() { [ -n "${PANEL:-}" ] || [ -e "$root/etc/systemd/system/mdt-panel.service" ]; }

# Dispatch's end has no place in a vehicle, nor have its commands.
without_dispatch() {
    rm -rf "$1/agent/dispatch"
    sed -i '/^mdt-dispatch = /d; /^mdt-pki = /d' "$1/pyproject.toml"
}

# A technician types mdt. A program of that name that is not ours stays.
link=/usr/local/bin/mdt
put_link() {
    [ ! -e "$root$link" ] || [ -L "$root$link" ] || { say "$link is there already: use $prefix/bin/mdt"; return 0; }
    mkdir -p "$root/usr/local/bin"
    ln -sfn "$prefix/bin/mdt" "$root$link"
}
drop_link() { [ "$(readlink "$root$link" 2>/dev/null)" != "$prefix/bin/mdt" ] || rm -f "$root$link"; }

put_files() {
    each_file put_file
    if panel; then each_panel_file put_file; fi
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
    if panel; then systemctl enable mdt-panel.service; fi
    if "$prefix/bin/mdt" check-config /etc/mdt/agent.toml; then
        systemctl restart mdt.service
        if panel; then systemctl restart mdt-panel.service; fi
        say "The agent runs: \`systemctl status mdt\`, \`mdt status\`. Who may ask it: sudo adduser NAME mdt."
    else
        say "Installed, not started: mend /etc/mdt/agent.toml, then \`systemctl start mdt\`."
    fi
}

deactivate() {
    systemctl disable --now mdt-panel.service 2>/dev/null || true
    systemctl disable --now mdt-poweroff.path mdt.service 2>/dev/null || true
}

case ${1:-} in
install | uninstall)
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root can do that; or give DESTDIR"
    ;;
esac

case ${1:-} in
install)
    locked=requirements.lock
    if panel; then locked=requirements-panel.lock; fi
    put_environment "$locked" without_dispatch
    put_files
    put_link
    if live; then activate; else say "Installed below ${root:-/}."; fi
    ;;
files)
    put_files
    ;;
uninstall)
    if live; then deactivate; fi
    each_file drop_file
    each_panel_file drop_file
    drop_link
    rm -rf "$root$prefix" "$root$prefix.new" "$root$prefix.old"
    if live; then systemctl daemon-reload; udevadm control --reload; fi
    say "Removed. Left: $root/etc/mdt (configuration), $root/var/lib/mdt (records), user mdt."
    ;;
*)
    fail "say install, files or uninstall"
    ;;
esac
