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

program=mdt-dispatch
. "$(dirname -- "$0")/environment.sh"

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
    put_environment requirements-dispatch.lock
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
