#!/bin/sh
# Runs as a service in a vehicle's whole system: looks at mdt.service as systemd sees it, then freezes the daemon.
# Lines that begin with @ are the findings; the host reads them from the console.
say() { echo "@$*" >/dev/console; }
show() { systemctl show mdt.service -P "$1"; }

wait_active() {
    n=0
    until [ "$(systemctl is-active mdt.service)" = active ]; do
        n=$((n + 1))
        [ $n -gt 300 ] && { say "FAULT not active: $(journalctl -b -u mdt --no-pager -o cat | tail -5 | tr '\n' '|')"; return 1; }
        sleep 0.2
    done
}

wait_active || systemctl poweroff -ff
pid=$(show MainPID)
say "ACTIVE $(show StatusText)"
field() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status" | cut -f1; }
say "SANDBOX user $(stat -c %U "/proc/$pid")"
say "SANDBOX no_new_privileges $(field NoNewPrivs)"
say "SANDBOX seccomp $(field Seccomp)"
say "SANDBOX capabilities $(field CapBnd)"
# As the daemon's file system: what it may write, and what it can not see.
inside() { nsenter -t "$pid" -m -- "$@" >/dev/null 2>&1 && echo yes || echo no; }
say "SANDBOX writes_etc $(inside touch /etc/mdt/probe)"
say "SANDBOX writes_usr $(inside touch /usr/probe)"
say "SANDBOX writes_state $(inside touch /var/lib/mdt/probe)"
touch /root/probe
say "SANDBOX sees_home $(inside test -e /root/probe)"
# As a process of the service: may a device be opened whose driver comes only later? Without a driver the kernel's
# answer is ENXIO (no such device or address); the service's fence says EPERM (operation not permitted) before that.
group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
open_device() { # NAME MAJOR
    # Below /dev: on /run no device may be opened at all.
    mknod "/dev/$1" c "$2" 7
    answer=$(sh -c 'echo $$ >"$1/cgroup.procs" && exec 3<>"$2"' sh "$group" "/dev/$1" 2>&1)
    case $answer in
    *'not permitted'*) echo refused ;;
    *'No such device'*) echo allowed ;;
    *) echo "unclear:$(echo "$answer" | tr ' ' '_')" ;;
    esac
}
say "DEVICE ttyUSB $(open_device ttyUSB7 188)"
say "DEVICE ttyACM $(open_device ttyACM7 166)"
say "DEVICE other $(open_device other7 189)"
say "STORE $(find /var/lib/mdt -type f ! -name probe | wc -l)"
say "ASKED $(/opt/mdt/bin/mdt status --config /etc/mdt/agent.toml >/run/status.txt 2>&1; echo $?)"

kill -STOP "$pid"
say "FROZEN"
n=0
while [ "$(show NRestarts)" = 0 ]; do
    n=$((n + 1))
    [ $n -gt 300 ] && { say "FAULT the watchdog did nothing"; systemctl poweroff -ff; }
    sleep 0.2
done
say "RESULT $(journalctl -b -u mdt --no-pager -o cat | grep -c -i 'watchdog timeout')"
wait_active && say "RESTARTED $(show NRestarts) $( [ "$(show MainPID)" != "$pid" ] && echo anew || echo same)"

# The power: the agent may make the file, and nothing comes of it before somebody enabled the path unit.
ask() { nsenter -t "$(show MainPID)" -m -S "$(id -u mdt)" -G "$(id -g mdt)" -- touch /run/mdt/power-off || say "FAULT no file"; }
ask
sleep 5
say "POWER not_enabled on"
rm -f /run/mdt/power-off
systemctl start mdt-poweroff.path
ask
sleep 1
rm -f /run/mdt/power-off
sleep 5
say "POWER withdrawn on"
ask
say "END"
sleep 60
say "FAULT the power stays on"
systemctl poweroff -ff
