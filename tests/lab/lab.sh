#!/usr/bin/env bash
# Real Linux hosts on this machine: each with an address, a disk and a systemd of its own, on a switch that can be told
# to drop what it carries. `lab.sh help` lists the commands.
#
# A host is a set of namespaces on an overlay of one shared root filesystem. The switch is a bridge in a namespace of
# its own; this machine joins it by one interface, and nothing is routed beyond.
set -euo pipefail

SELF=$(readlink -f "${BASH_SOURCE[0]}")
STATE=${EVENTSTREAM_LAB:-/var/tmp/eventstream-lab}
NAME=evlab # of the cgroup, the interfaces and the network namespaces
NET=10.77.0 # .1 is this machine, .11 is h1, .12 is h2 ...
# The Debian of this machine, so that what was built here runs there.
SUITE=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
BASE=$STATE/base
SWITCH=$NAME-switch
UPLINK=$NAME-op
PACKAGES=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo,iproute2
KEY=$STATE/ssh/id_ed25519
export EVENTSTREAM_LAB=$STATE

usage() {
    cat <<END
usage: lab.sh COMMAND [ARGUMENT...]       (as root; everything is kept in $STATE)

  base                  install what is missing and build the root filesystem, once; fails where no lab can run
  up N                  boot h1..hN ($NET.11 and on) with fresh disks
  down                  remove the hosts and the switch; the root filesystem stays
  purge                 remove the root filesystem too
  exec HOST COMMAND...  run a command on the host, even when it is cut off
  put HOST FILE PATH    copy a file of this machine to the host
  key                   the SSH key that every host accepts, for root, admin (sudo without a password), pwadmin
                        (sudo asks for one) and guest (no sudo)
  known_hosts           a known_hosts file with the keys of all hosts
  disk HOST             the folder with the host's files, readable also when it is off
  kill HOST             cut its power
  start HOST            boot it again from its disk
  reboot HOST           reboot it cleanly; returns when it is starting
  freeze HOST, thaw HOST  stop and continue every process; the kernel still accepts connections
  block FROM TO         drop what FROM sends to TO: a host, "peers" for all other hosts, or "operator" for this machine
  loss HOST PERCENT     drop this percentage of packets from and to the host
  heal                  drop nothing from now on
END
}

die() {
    printf 'lab: %s\n' "$*" >&2
    exit 1
}

dir_of() { printf '%s/hosts/%s' "$STATE" "$1"; }
netns_of() { printf '%s-%s' "$NAME" "$1"; }
number_of() { printf '%d' "${1#h}"; }
port_of() { if [[ $1 == operator ]]; then printf uplink; else printf 'port-%s' "$1"; fi; }
switch() { ip netns exec "$SWITCH" "$@"; }

known() { # refuses what is not a host of this lab
    [[ ${1:-} =~ ^h[1-9][0-9]?$ && -d $(dir_of "$1") ]] || die "no such host: ${1:-}"
}

cgroup_of() {
    local mount
    mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
    [[ -n $mount ]] || die "no cgroup v2 is mounted"
    printf '%s/%s%s' "$mount" "$NAME" "${1:+/$1}"
}

init_of() { # the host's PID 1 as this machine numbers it; the number alone might be another process by now
    local pid
    pid=$(cat "$(dir_of "$1")/init.pid" 2>/dev/null) || return 1
    grep -qs "/$NAME/$1\(/\|\$\)" "/proc/$pid/cgroup" || return 1
    printf '%s' "$pid"
}

eventually() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# ------------------------------------------------------------------ what all hosts share

install_tools() {
    local pair missing=()
    for pair in debootstrap:debootstrap ssh-keygen:openssh-client nft:nftables ip:iproute2 unshare:util-linux setpriv:util-linux curl:curl; do
        command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

try_kernel() { # what a host needs of the kernel, tried rather than looked up
    local trial
    [[ -w $(dirname "$(cgroup_of)")/cgroup.procs ]] || die "the cgroup v2 hierarchy cannot be written"
    trial=$(mktemp -d "$STATE/trial.XXXXXX")
    mkdir "$trial"/{lower,upper,work,root}
    unshare --mount --net --pid --fork --uts --ipc --cgroup bash -ec "
        mount -t overlay -o lowerdir=$trial/lower,upperdir=$trial/upper,workdir=$trial/work lab $trial/root
        ip link add one type bridge
        nft add table bridge trial" 2>"$trial/why" || die "the kernel does not let it: $(cat "$trial/why")"
    rm -rf --one-file-system "$trial"
}

build_base() {
    [[ ! -d $BASE || $(cat "$BASE/etc/lab-recipe" 2>/dev/null) != "$(recipe)" ]] || return 0
    [[ -f $KEY ]] || { install -d -m 700 "$STATE/ssh" && ssh-keygen -q -t ed25519 -N '' -C lab -f "$KEY"; }
    umount -R -l "$BASE.new/proc" 2>/dev/null || true # left by one that was interrupted
    rm -rf --one-file-system "$BASE.new"
    debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$BASE.new" >"$STATE/debootstrap.log" 2>&1 ||
        die "no root filesystem: $(tail -n 1 "$STATE/debootstrap.log") ($STATE/debootstrap.log)"
    systemctl --root="$BASE.new" --quiet set-default multi-user.target
    systemctl --root="$BASE.new" --quiet mask console-getty.service getty@tty1.service getty-static.service \
        apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
        systemd-logind.service systemd-timesyncd.service sys-kernel-debug.mount sys-kernel-tracing.mount \
        dev-hugepages.mount sys-fs-fuse-connections.mount
    : >"$BASE.new/etc/fstab"
    chroot "$BASE.new" bash -ec "$USERS" lab "$(cat "$KEY.pub")"
    printf 'UseDNS no\nPasswordAuthentication no\n' >"$BASE.new/etc/ssh/sshd_config.d/lab.conf"
    rm -f "$BASE.new"/etc/ssh/ssh_host_*
    recipe >"$BASE.new/etc/lab-recipe"
    rm -rf --one-file-system "$BASE"
    mv "$BASE.new" "$BASE"
}

recipe() { # of what the root filesystem is made
    declare -f build_base | cat - <(echo "$PACKAGES $SUITE $USERS") "$KEY.pub" 2>/dev/null | sha256sum
}

# shellcheck disable=SC2016 # expanded inside
USERS='
for user in admin pwadmin guest; do useradd -m -s /bin/bash "$user"; done
echo pwadmin:lab | chpasswd
usermod -aG sudo pwadmin
echo "admin ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/admin
chmod 440 /etc/sudoers.d/admin
for user in root admin pwadmin guest; do
    home=$(getent passwd "$user" | cut -d: -f6)
    install -d -m 700 -o "$user" -g "$user" "$home/.ssh"
    echo "$1" >"$home/.ssh/authorized_keys"
    chown "$user:$user" "$home/.ssh/authorized_keys"
done'


switch_up() {
    ip netns add "$SWITCH"
    ip -n "$SWITCH" link add bridge0 type bridge forward_delay 0 mcast_snooping 0
    ip -n "$SWITCH" link set bridge0 up
    ip link add "$UPLINK" type veth peer name uplink netns "$SWITCH"
    ip -n "$SWITCH" link set uplink master bridge0 up
    ip addr add "$NET.1/24" dev "$UPLINK"
    ip link set "$UPLINK" up
    switch nft 'table bridge lab { chain forward { type filter hook forward priority 0; policy accept; }; }'
}

# ------------------------------------------------------------------ one host

plug_in() { # a fresh network namespace; the address of the interface stays, so that no neighbour knows an old one
    local host=$1 ns number
    ns=$(netns_of "$host") number=$(number_of "$host")
    unplug "$host"
    ip netns add "$ns"
    ip link add eth0 address "$(printf '02:00:00:00:00:%02x' "$number")" netns "$ns" \
        type veth peer name "$(port_of "$host")" netns "$SWITCH"
    ip -n "$SWITCH" link set "$(port_of "$host")" master bridge0 up
    ip -n "$ns" link set lo up
    ip -n "$ns" addr add "$NET.$((10 + number))/24" dev eth0
    ip -n "$ns" link set eth0 up
}

unplug() {
    ip -n "$SWITCH" link del "$(port_of "$1")" 2>/dev/null || true
    ip netns del "$(netns_of "$1")" 2>/dev/null || true
}

# Runs in the host's namespaces, mounts its world and ends as its systemd.
host_init() {
    local host=$1 dir root pid file
    dir=$(dir_of "$host") root=$(dir_of "$host")/root
    read -r pid _ </proc/self/stat # /proc is still this machine's, and so is the number
    echo "$pid" >"$dir/init.pid.new"
    mv "$dir/init.pid.new" "$dir/init.pid"
    mount --make-rprivate /
    hostname "$host"
    mount -t overlay -o "lowerdir=$BASE,upperdir=$dir/upper,workdir=$dir/work" lab "$root"
    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    # The kernel's settings are the machine's; only those of the network are the host's own.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
    mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc/sys"
    [[ ! -e $root/proc/sysrq-trigger ]] || mount --bind /dev/null "$root/proc/sysrq-trigger"
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid,size=4m tmpfs "$root/dev"
    for file in null zero full random urandom tty; do
        : >"$root/dev/$file"
        mount --bind "/dev/$file" "$root/dev/$file"
    done
    : >"$root/dev/console"
    mount --bind /dev/null "$root/dev/console"
    mkdir "$root/dev/pts"
    mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
    cd "$root"
    pivot_root . .
    umount -l .
    # The host's root keeps away from the machine's clock, modules and devices.
    local drop=-sys_time,-sys_module,-sys_rawio,-mknod,-syslog,-wake_alarm
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lab LANG=C.UTF-8 \
        setpriv --bounding-set="$drop" --inh-caps="$drop" /sbin/init
}

# Boots the host, and again after each reboot, until it is switched off.
supervise() {
    local host=$1 cgroup code=129
    cgroup=$(cgroup_of "$host")
    mkdir -p "$cgroup.boss"
    echo "$BASHPID" >"$cgroup.boss/cgroup.procs"
    while ((code == 129)); do # reboot(2) ends the init of a PID namespace with SIGHUP
        rm -f "$(dir_of "$host")/init.pid"
        plug_in "$host"
        empty "$cgroup"
        mkdir -p "$cgroup"
        code=0
        (
            echo "$BASHPID" >"$cgroup/cgroup.procs"
            exec nsenter --net="/run/netns/$(netns_of "$host")" -- \
                unshare --fork --pid --mount --uts --ipc --cgroup -- "$SELF" __init "$host"
        ) || code=$?
    done
}

empty() { # ends everything in a cgroup and removes it
    [[ -d $1 ]] || return 0
    echo 1 >"$1/cgroup.kill"
    eventually 10 grep -q '^populated 0' "$1/cgroup.events" || die "processes in $1 do not end"
    find "$1" -depth -type d -exec rmdir {} +
}

fresh_disk() {
    local dir
    dir=$(dir_of "$1")
    mkdir -p "$dir"/{upper/etc,work,root}
    echo "$1" >"$dir/upper/etc/hostname"
    echo "127.0.0.1 localhost $1" >"$dir/upper/etc/hosts"
    mkdir -p "$dir/upper/etc/ssh"
    ssh-keygen -q -t ed25519 -N '' -C "root@$1" -f "$dir/upper/etc/ssh/ssh_host_ed25519_key"
    tr -d - </proc/sys/kernel/random/uuid >"$dir/upper/etc/machine-id"
}

has_booted() { cmd_exec "$1" systemctl is-active --quiet multi-user.target; }

# ------------------------------------------------------------------ commands

cmd_base() {
    [[ $EUID == 0 ]] || die "this is not root"
    mkdir -p "$STATE"
    install_tools
    try_kernel
    build_base
}

cmd_up() {
    local i
    [[ ${1:-} =~ ^([1-9]|1[0-9]|20)$ ]] || die "up N, with N from 1 to 20"
    cmd_base
    cmd_down
    mkdir -p "$STATE/hosts" "$(cgroup_of)"
    switch_up
    for ((i = 1; i <= $1; i++)); do
        fresh_disk "h$i"
        boot "h$i"
    done
    for ((i = 1; i <= $1; i++)); do
        eventually 60 has_booted "h$i" || die "h$i does not boot, see $(dir_of "h$i")/console"
    done
}

boot() {
    setsid "$SELF" __supervise "$1" </dev/null >>"$(dir_of "$1")/console" 2>&1 9>&- &
}

cmd_start() {
    boot "$1"
    eventually 60 has_booted "$1" || die "$1 does not boot, see $(dir_of "$1")/console"
}

cmd_kill() { # the link first, so that no connection is closed
    ip -n "$SWITCH" link set "$(port_of "$1")" down 2>/dev/null || true
    empty "$(cgroup_of "$1").boss"
    empty "$(cgroup_of "$1")"
    unplug "$1"
    rm -f "$(dir_of "$1")/init.pid"
}

cmd_down() {
    local dir
    for dir in "$STATE"/hosts/h*; do
        [[ ! -d $dir ]] || cmd_kill "$(basename "$dir")"
    done
    ip link del "$UPLINK" 2>/dev/null || true
    ip netns del "$SWITCH" 2>/dev/null || true
    rmdir "$(cgroup_of)" 2>/dev/null || true
    rm -rf --one-file-system "$STATE/hosts"
}

cmd_purge() {
    cmd_down
    rm -rf --one-file-system "$BASE" "$BASE.new" "$STATE/debootstrap.log" "$STATE/lock"
    rmdir --ignore-fail-on-non-empty "$STATE"
}

cmd_exec() {
    local host=$1 pid
    pid=$(init_of "$host") || return 1
    shift
    nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup -- \
        env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

cmd_put() {
    local to
    to=/proc/$(init_of "$1")/root/$3
    mkdir -p "$(dirname "$to")"
    cp "$2" "$to"
}

cmd_key() { echo "$KEY"; }

cmd_known_hosts() {
    local dir host
    for dir in "$STATE"/hosts/h*; do
        host=$(basename "$dir")
        echo "$host,$NET.$((10 + $(number_of "$host"))) $(cut -d " " -f 1,2 "$dir/upper/etc/ssh/ssh_host_ed25519_key.pub")"
    done >"$STATE/known_hosts"
    echo "$STATE/known_hosts"
}

cmd_disk() { printf '%s/upper\n' "$(dir_of "$1")"; }

cmd_reboot() {
    local old
    old=$(init_of "$1") || die "$1 is off"
    kill -s RTMIN+5 "$old" # systemd: reboot.target
    eventually 60 is_another "$1" "$old" || die "$1 does not come back"
}

is_another() { [[ $(init_of "$1") != "$2" ]] && init_of "$1"; }

freeze() {
    local cgroup
    cgroup=$(cgroup_of "$1")
    echo "$2" >"$cgroup/cgroup.freeze"
    eventually 10 grep -q "^frozen $2" "$cgroup/cgroup.events" || die "$1 is not frozen=$2"
}
cmd_freeze() { freeze "$1" 1; }
cmd_thaw() { freeze "$1" 0; }

cmd_block() {
    local from to
    from="iifname $(port_of "$1")" to="oifname $(port_of "$2")"
    [[ $1 != peers ]] || from='iifname != uplink'
    [[ $2 != peers ]] || to='oifname != uplink'
    switch nft "add rule bridge lab forward $from $to drop"
}

cmd_loss() {
    local way
    for way in iifname oifname; do
        switch nft "add rule bridge lab forward $way $(port_of "$1") numgen random mod 100 < $2 drop"
    done
}

cmd_heal() { switch nft flush chain bridge lab forward; }

main() {
    local command=${1:-help}
    (($# == 0)) || shift
    case $command in
    help) usage ;;
    key | known_hosts) "cmd_$command" ;;
    __init) host_init "$@" ;;
    __supervise) supervise "$@" ;;
    base | up | down | purge | heal | block) locked "$command" "$@" ;;
    exec | disk | put) known "${1:-}" && "cmd_$command" "$@" ;;
    start | kill | reboot | freeze | thaw | loss) known "${1:-}" && locked "$command" "$@" ;;
    *) usage >&2 && exit 2 ;;
    esac
}

locked() { # one change at a time
    mkdir -p "$STATE"
    exec 9>"$STATE/lock"
    flock -w 300 9 || die "another change takes too long"
    "cmd_$1" "${@:2}"
}

main "$@"
exit # not to read on: the file may have changed meanwhile
