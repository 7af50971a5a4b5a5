# Sourced by run.sh. prepare_image sets kernel and initrd: the distribution's kernel, fetched and
# unpacked but not installed, and an initramfs that loads rdma_rxe and mounts the host's root. Both
# are kept in $cache and used as they are from then on, without a network.
# shellcheck shell=bash disable=SC2154  # here, cache, work (which run.sh removes), kLockSeconds and skip are run.sh's

# Loaded for the root and, at the same time, for the network; for a cable to another guest only in
# such a guest. One with ? may be missing or built in.
readonly kRootModules="virtio_pci 9pnet_virtio 9p overlay"
readonly kNetworkModules="veth dummy ?crc32_generic rdma_rxe rdma_ucm ?ib_umad ?sch_netem"
readonly kCableModules="virtio_net"
readonly kDownloadSeconds=400

prepare_image() {
  local stamp
  # What the initramfs is made from. The kernel stays as long as it is there.
  stamp=$(cat "$here/image.sh" "$here/stage1.sh" "$(command -v busybox)" | cksum | tr ' ' -)
  kernel=$cache/kernel/vmlinux initrd=$cache/initrd-$stamp
  [ -s "$kernel" ] && [ -s "$initrd" ] && return 0
  exec 9>"$cache/lock"
  flock -w "$kLockSeconds" 9 || skip "another start has held $cache/lock for $kLockSeconds s"
  # Left by runs that were killed: whoever holds the lock is alone.
  rm -rf "$cache"/new.*
  [ -s "$kernel" ] || fetch_kernel
  [ -s "$initrd" ] || build_initrd
  exec 9>&-
}

# apt with lists of our own, where the system's are absent or name packages that are gone.
own_apt() {
  local tool=$1
  shift
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  timeout --foreground "$kDownloadSeconds" "$tool" -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/archives" -o APT::Sandbox::User=root "$@"
}
system_apt() {
  timeout --foreground "$kDownloadSeconds" "$1" -o APT::Sandbox::User=root "${@:2}"
}

# Downloads the packages of the newest stock kernel into the current directory, by the given apt.
download_kernel() {
  local apt=$1 meta image version package packages=()
  for meta in linux-image-amd64 linux-image-generic; do  # Debian's, Ubuntu's
    image=$("$apt" apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    [ -n "$image" ] && break
  done
  [ -n "$image" ] || return 1
  version=${image#linux-image-}
  for package in "$image" "linux-modules-$version" "linux-modules-extra-$version"; do
    if [ -n "$("$apt" apt-cache show --no-all-versions "$package" 2>/dev/null)" ]; then packages+=("$package"); fi
  done
  echo "avec: fetching ${packages[*]} for the RDMA guest" >&2
  "$apt" apt-get -qq download "${packages[@]}" >"$work/log" 2>&1
}

# shellcheck disable=SC2013  # numbers
# The ELF kernel inside bzImage $1: QEMU starts it directly, with nothing to unpack under emulation.
extract_vmlinux() {
  local at
  for at in $(LC_ALL=C grep -abo -P '\xfd7zXZ\x00' "$1" | cut -d: -f1); do
    tail -c "+$((at + 1))" "$1" | xz -dc --single-stream 2>/dev/null >"$2" || :
    is_bootable_elf "$2" && return 0
  done
  if command -v zstd >/dev/null; then
    for at in $(LC_ALL=C grep -abo -P '\x28\xb5\x2f\xfd' "$1" | cut -d: -f1); do
      tail -c "+$((at + 1))" "$1" | zstd -dcq 2>/dev/null >"$2" || :
      is_bootable_elf "$2" && return 0
    done
  fi
  return 1
}
is_bootable_elf() {
  [ "$(head -c 4 "$1" | tail -c 3)" = ELF ] || return 1
  ! command -v readelf >/dev/null || readelf -n "$1" 2>/dev/null | grep -q '^ *Xen'  # QEMU enters by Xen's PVH note
}

fetch_kernel() {
  local version deb
  work=$(mktemp -d "$cache/new.XXXXXX")
  mkdir "$work/debs" "$work/kernel"
  (cd "$work/debs" && { download_kernel system_apt || { own_apt apt-get -qq update >"$work/log" 2>&1 && download_kernel own_apt; }; }) ||
    { cat "$work/log" >&2 2>/dev/null || :; skip "the kernel's package can not be fetched and none is kept in $cache"; }
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
  version=$(ls "$work/root/lib/modules" 2>/dev/null || ls "$work/root/usr/lib/modules")
  [ -d "$work/root/lib" ] || ln -s usr/lib "$work/root/lib"
  depmod -b "$work/root" "$version"
  extract_vmlinux "$work/root/boot/vmlinuz-$version" "$work/kernel/vmlinux" ||
    cp "$work/root/boot/vmlinuz-$version" "$work/kernel/vmlinux"
  collect_modules "$work/root" "$version" "$work/kernel/modules"
  echo "Linux $version" >"$work/kernel/version"
  rm -rf "$cache/kernel"
  mv "$work/kernel" "$cache/kernel"
  rm -rf "$work"
}

# The files of modules $3... and of what they need, in their order of loading.
module_files() {
  local root=$1 version=$2 module
  shift 2
  for module in "$@"; do
    modprobe -d "$root" -S "$version" --show-depends "${module#\?}" 2>/dev/null || [ "${module:0:1}" = '?' ] ||
      skip "Linux $version has no $module"
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'
}

# Copies module $1 to folder $2, unpacked and without its signature, which takes longer to check
# under emulation than the module takes to load; prints its name there.
copy_module() {
  local name
  name=$(basename "$1")
  case $name in
    *.xz) name=${name%.xz}; xz -dc "$1" >"$2/$name";;
    *.zst) name=${name%.zst}; zstd -dcq "$1" >"$2/$name";;
    *) cp "$1" "$2/$name";;
  esac
  ! command -v strip >/dev/null || strip --strip-debug "$2/$name"
  echo "$name"
}

# Copies the modules from root $1 to folder $3, with the orders in which they are loaded: first what
# both the root and the network need, as these two are loaded at the same time.
collect_modules() {
  local part file
  mkdir -p "$3"
  # shellcheck disable=SC2086
  {
    module_files "$1" "$2" $kRootModules >"$work/root.files"
    module_files "$1" "$2" $kNetworkModules >"$work/network.files"
    module_files "$1" "$2" $kCableModules >"$work/cable.files"
  }
  grep -Fxf "$work/root.files" "$work/network.files" >"$work/first.files" || :
  : >"$work/done.files"
  for part in first root network cable; do
    while read -r file; do
      ! grep -Fxq "$file" "$work/done.files" || continue
      echo "$file" >>"$work/done.files"
      copy_module "$file" "$3"
    done <"$work/$part.files" >"$3/order.$part"
  done
}

build_initrd() {
  local tool
  work=$(mktemp -d "$cache/new.XXXXXX")
  mkdir -p "$work/root"/{bin,proc,sys,dev,host,root,upper}
  cp "$(command -v busybox)" "$work/root/bin/busybox"
  for tool in sh mount mkdir ln cp sed insmod hostname printf switch_root reboot; do
    ln -s busybox "$work/root/bin/$tool"
  done
  for tool in ip rdma; do
    cp -L "$(command -v "$tool")" "$work/root/bin/$tool"
    ldd "$(command -v "$tool")" | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} "$work/root"
  done
  cp -r "$cache/kernel/modules" "$work/root/modules"
  install -m 755 "$here/stage1.sh" "$work/root/init"
  # Not compressed: unpacking takes time under emulation.
  (cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
  rm -f "$cache"/initrd-*
  mv "$work/initrd" "$initrd"
  rm -rf "$work"
}
