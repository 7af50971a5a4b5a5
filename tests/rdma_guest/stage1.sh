#!/bin/busybox sh
# /init of the guest's initramfs. Two things at once: loads rdma_rxe and sets the network up, and
# mounts the host's root below a tmpfs. Goes on there with stage2.sh. Every program it uses is in
# the initramfs: one from the host's root takes a tenth of a second to start under emulation.
# ip and rdma are iproute2's, by path, as busybox may prefer its own.
# shellcheck shell=dash
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec >/dev/kmsg 2>&1 </dev/null
network=$(sed -n 's/.*avec\.network=\([^ ]*\).*/\1/p' /proc/cmdline)

load_modules() {
  while read -r module; do insmod "/modules/$module"; done <"/modules/order.$1"
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
  for scope in all default; do
    echo 1 >/proc/sys/net/ipv4/conf/$scope/accept_local
    echo 0 >/proc/sys/net/ipv4/conf/$scope/rp_filter
  done
  # A long RDMA READ overruns the default, and then waits for its retries.
  echo 100000 >/proc/sys/net/core/netdev_max_backlog
  {
    echo 'link set lo up'
    echo 'link add va address 02:00:0a:09:00:01 type veth peer vb address 02:00:0a:09:00:02'
    wire va 10.9.0.1 10.9.0.2 02:00:0a:09:00:02 101
    wire vb 10.9.0.2 10.9.0.1 02:00:0a:09:00:01 102
    echo 'rule add pref 30 lookup local'
    echo 'rule del pref 0'
  } | /bin/ip -batch - && /bin/rdma link add rxa type rxe netdev va && /bin/rdma link add rxb type rxe netdev vb
}

network_lo() {
  printf '%s\n' 'link set lo up' 'link add d0 mtu 9000 type dummy' 'link set d0 up' 'address add 10.9.0.1/24 dev d0' |
    /bin/ip -batch - && /bin/rdma link add rxe0 type rxe netdev d0
}

# The end of the cable whose number is $1.
network_cable() {
  load_modules cable
  printf '%s\n' 'link set lo up' 'link set eth0 mtu 9000 up' "address add 10.9.0.$1/24 dev eth0" |
    /bin/ip -batch - && /bin/rdma link add rxe0 type rxe netdev eth0
}

set_up_network() {
  load_modules network
  case $network in
    veth) network_veth;;
    lo) network_lo;;
    [12]) network_cable "$network";;
    *) /bin/ip link set lo up;;
  esac && : >/network_is_up
}

mount_9p() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000$3" "$1" "$2"; }

mount_root() {
  load_modules root
  mount_9p host /host ,ro,cache=loose &&
    mount -t tmpfs upper /upper && mkdir /upper/upper /upper/work &&
    mount -t overlay -o lowerdir=/host,upperdir=/upper/upper,workdir=/upper/work root /root &&
    mount -t tmpfs run /root/run && mkdir /root/run/avec-guest && mount_9p control /root/run/avec-guest ''
}

furnish_root() {
  for folder in proc sys dev; do mount --move /$folder /root/$folder || return; done
  cp /bin/busybox /root/run/busybox && mkdir -p /root/dev/shm /root/dev/pts &&
    mount -t tmpfs shm /root/dev/shm && mount -t devpts pts /root/dev/pts || return
  ln -sf /proc/self/fd /root/dev/fd
  ln -sf fd/0 /root/dev/stdin
  ln -sf fd/1 /root/dev/stdout
  ln -sf fd/2 /root/dev/stderr
  # A line: tag and folder.
  while read -r tag share; do
    mkdir -p "/root$share" && mount_9p "$tag" "/root$share" ,cache=mmap || return
  done </root/run/avec-guest/shares
}

hostname avec-guest
load_modules first
set_up_network &
mount_root && wait && [ -e /network_is_up ] && furnish_root && exec switch_root /root /run/busybox sh /run/avec-guest/stage2.sh
echo "avec: the guest could not be set up"
reboot -f
