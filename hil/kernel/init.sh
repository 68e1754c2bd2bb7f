#!/bin/sh
# PID 1 of the rig's machine. The host's files are its read-only root; /run is its own memory; the first disk,
# when there is one, is mounted on /run/data after the check a vehicle's boot makes.
# Everything after `--` on the kernel's command line arrives here: NAME=VALUE settings, then the guest's program.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -c /dev/ubda ] || [ -c /dev/null ] || mount -t devtmpfs dev /dev
mkdir -p /run/data /run/tmp /run/host /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
echo 3 >/proc/sys/kernel/printk
TMPDIR=/run/tmp SQLITE_TMPDIR=/run/tmp HOME=/run/tmp
export TMPDIR SQLITE_TMPDIR HOME

power_off() {
    echo o >/proc/sysrq-trigger
    sleep 9
}

while [ "$1" != "run" ]; do
    case $1 in
    module=*) insmod "${1#module=}" || echo "@FAULT insmod ${1#module=}" ;;
    can=*)
        ip link add "${1#can=}" type vcan && ip link set "${1#can=}" up || echo "@FAULT vcan"
        ;;
    loopback=*) ip link set lo up ;;
    gpio=*)
        mount -t configfs none /sys/kernel/config
        mkdir -p /sys/kernel/config/gpio-sim/panel/bank0
        echo "${1#gpio=}" >/sys/kernel/config/gpio-sim/panel/bank0/num_lines
        echo 1 >/sys/kernel/config/gpio-sim/panel/live
        ;;
    writable=*) mount -t hostfs -o "${1#writable=}" none /run/host || echo "@FAULT hostfs" ;;
    record=*)
        # Every write to the disk is also written, in order, to the second disk.
        mkdir -p /dev/mapper
        [ -e /dev/mapper/control ] || mknod /dev/mapper/control c 10 "$(awk '/device-mapper/{print $1}' /proc/misc)"
        dmsetup create --noudevsync recorded \
            --table "0 $(cat /sys/block/ubda/size) log-writes /dev/ubda /dev/ubdb" || echo "@FAULT dmsetup"
        dmsetup mknodes
        ;;
    disk=*)
        e2fsck -p "${1#disk=}" >/run/fsck.log 2>&1
        echo "@FSCK $?"
        mount -t ext4 -o "$DISK_OPTIONS" "${1#disk=}" /run/data || { echo "@FAULT mount"; power_off; }
        ;;
    *=*) export "${1?}" ;;
    esac
    shift
done
shift
"$@" 2>&1
echo "@EXIT $?"
if [ -e /dev/mapper/recorded ]; then
    umount /run/data && dmsetup remove --noudevsync recorded && sync
fi
umount /run/data 2>/dev/null
echo "@OFF"
power_off
