#!/bin/sh
# /init of the guest's initramfs: loads the modules, mounts the host's root below a tmpfs, and goes
# on there with stage2.sh, which run.sh has put into the control folder.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
options=trans=virtio,version=9p2000.L,msize=512000
# shellcheck disable=SC2015  # off, when any of it fails
mount -t 9p -o "$options,ro,cache=loose" host /host &&
  mount -t tmpfs upper /upper && mkdir /upper/upper /upper/work &&
  mount -t overlay -o lowerdir=/host,upperdir=/upper/upper,workdir=/upper/work root /root &&
  mount -t tmpfs run /root/run && mkdir /root/run/avec-guest &&
  mount -t 9p -o "$options" control /root/run/avec-guest || poweroff -f
for folder in proc sys dev; do mount --move /$folder /root/$folder; done
exec switch_root /root /bin/bash /run/avec-guest/stage2.sh
