#!/bin/bash
# The guest's init, on the host's root: sets up the network and its soft-RoCE adapters, runs the
# command, leaves its status in the control folder, and switches the guest off.
exec >/dev/kmsg 2>&1 </dev/null
control=/run/avec-guest
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'sync; echo o >/proc/sysrq-trigger; sleep 60' EXIT
set -e
network='' memlock='' directory='' shares=()
# shellcheck source=/dev/null
. "$control/settings"

mount_folders() {
  local index=0 share
  mkdir -p /dev/shm /dev/pts
  mount -t tmpfs shm /dev/shm
  mount -t devpts pts /dev/pts
  ln -sf /proc/self/fd /dev/fd
  ln -sf fd/0 /dev/stdin
  ln -sf fd/1 /dev/stdout
  ln -sf fd/2 /dev/stderr
  for share in "${shares[@]}"; do
    mkdir -p "$share"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap "share$index" "$share"
    index=$((index + 1))
  done
}

# One end of the veth pair: device, its address, the other's address and hardware address, table.
# The other address is looked up before the local ones, so that its packets go over the wire.
wire() {
  echo "link set $1 mtu 9000 up
    address add $2/32 dev $1
    neigh add $3 lladdr $4 dev $1 nud permanent
    rule add pref 10 iif $1 lookup local
    rule add pref 20 iif lo to $3 lookup $5
    rule add pref 20 oif $1 lookup $5
    route add $3 dev $1 src $2 table $5"
}

network_veth() {
  local i
  for i in all default; do
    echo 1 >/proc/sys/net/ipv4/conf/$i/accept_local
    echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter
  done
  # A long RDMA READ overruns the default, and then waits for its retries.
  echo 100000 >/proc/sys/net/core/netdev_max_backlog
  {
    echo 'link add va address 02:00:0a:09:00:01 type veth peer vb address 02:00:0a:09:00:02'
    wire va 10.9.0.1 10.9.0.2 02:00:0a:09:00:02 101
    wire vb 10.9.0.2 10.9.0.1 02:00:0a:09:00:01 102
    echo 'rule add pref 30 lookup local'
    echo 'rule del pref 0'
  } | ip -batch -
  rdma link add rxa type rxe netdev va
  rdma link add rxb type rxe netdev vb
}

network_lo() {
  printf '%s\n' 'link add d0 mtu 9000 type dummy' 'link set d0 up' 'address add 10.9.0.1/24 dev d0' | ip -batch -
  rdma link add rxe0 type rxe netdev d0
}

network_cable() {
  printf '%s\n' 'link set eth0 mtu 9000 up' "address add 10.9.0.$1/24 dev eth0" | ip -batch -
  rdma link add rxe0 type rxe netdev eth0
}

# The command, in the caller's environment. A limit of locked memory means nothing to a process that
# may exceed it: those rights go, too.
run_command() {
  local rights=-ipc_lock,-sys_resource
  # Positional, as a variable of the environment may have any name.
  set -- "$directory" "$(cat "$control/command")"
  [ -z "$memlock" ] ||
    set -- "$1" "prlimit --memlock=$memlock:$memlock setpriv --bounding-set=$rights --inh-caps=$rights -- $2"
  # shellcheck source=/dev/null
  . "$control/environment" 2>/dev/null
  cd "$1" || return
  eval "exec $2"
}

# What the command left running; not this script, nor those who carry its output.
kill_leftovers() {
  local folder process
  for folder in /proc/[0-9]*; do
    process=${folder#/proc/}
    case " 1 $* " in *" $process "*) continue;; esac
    [ ! -e "$folder/exe" ] || kill -KILL "$process"  # a kernel thread has none
  done
}

mount_folders
hostname avec-guest
ip link set lo up
ulimit -l unlimited
case $network in
  veth) network_veth;;
  lo) network_lo;;
  [12]:*) network_cable "${network%%:*}";;
esac
: >"$control/booted"
set +e
# Pipes, as a program may open its /dev/stderr once more, which would empty a file.
mkfifo /run/out /run/err
cat /run/out >"$control/out" & out=$!
cat /run/err >"$control/err" & err=$!
(run_command) >/run/out 2>/run/err
status=$?
kill_leftovers "$out" "$err" 2>/dev/null
wait "$out" "$err"
echo "$status" >"$control/status"
