#!/bin/bash
# Runs a command as root in a throw-away QEMU guest that has soft-RoCE adapters (rdma_rxe).
#
#   run.sh [option ...] -- COMMAND [ARGUMENT ...]
#   run.sh --check              prepares everything, says how the guest would run, runs nothing
#
#   --network veth|lo|none|1:DIR|2:DIR   the guest's network (veth), see below
#   --share DIR        DIR is shared with the guest, writable, at the same path (may be repeated)
#   --memlock BYTES    the command's limit of locked memory, without the rights to exceed it
#   --timeout SECONDS  on the whole run, boot included (300)
#   --cpus N           the guest's CPUs (2)
#   --memory MIB       the guest's memory (2048)
#   --pin N|none       the guest's CPUs run on the host's allowed CPUs from the Nth on (0)
#   --accel auto|kvm|tcg   auto: KVM where it runs guest code, emulation otherwise; or $AVEC_RDMA_GUEST_ACCEL
#   --idle-poll        the guest's idle CPUs poll: quick wake-ups, and host CPUs that never rest
#   --kernel-log FILE  keeps the guest's kernel log in FILE
#
# The command runs in the current directory with the caller's environment and no input. The guest's
# root is the host's, read-only, below a tmpfs: what is built on the host runs as it is, and what
# the guest writes is lost unless it is shared. What the command leaves running is killed.
#
# Exit status: the command's. 77: no guest is possible here, for the reason on stderr. 124: the time
# limit. 125: the guest broke down. 2: wrong options.
#
# veth    10.9.0.1 on rxa and 10.9.0.2 on rxb, joined by a veth pair, in one network namespace:
#         whoever connects to one comes from the other, over the wire, for TCP and for RDMA
# lo      10.9.0.1 on rxe0: no wire, the adapter hands each packet to itself
# 1:DIR   10.9.0.1 on rxe0; a second guest with 2:DIR is 10.9.0.2; DIR exists and holds their cable
set -euo pipefail
readonly kSkipped=77 kTimeLimit=124 kBroken=125 kKvmSeconds=20 kLockSeconds=500
here=$(dirname "$(readlink -f "$0")")
cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}/avec/rdma-guest
network=veth shares=() memlock='' limit=300 cpus=2 memory=2048 pin=0 idle_poll='' kernel_log='' check=''
accel=${AVEC_RDMA_GUEST_ACCEL:-auto}

skip() { echo "avec: no RDMA guest: $*" >&2; exit "$kSkipped"; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --check) check=1; shift; continue;;
      --idle-poll) idle_poll=idle=poll; shift; continue;;
      --) shift; break;;
      -*) [ $# -ge 2 ] || usage;;
      *) break;;
    esac
    case $1 in
      --network) network=$2;; --share) shares+=("$(realpath -e "$2")");; --memlock) memlock=$2;;
      --timeout) limit=$2;; --cpus) cpus=$2;; --memory) memory=$2;; --pin) pin=$2;;
      --accel) accel=$2;; --kernel-log) kernel_log=$2;; *) usage;;
    esac
    shift 2
  done
  case $network in veth|lo|none|[12]:?*) ;; *) usage;; esac
  case $accel in auto|kvm|tcg) ;; *) usage;; esac
  [[ $limit$cpus$memory${memlock:-0} =~ ^[0-9]+$ && $pin =~ ^([0-9]+|none)$ ]] || usage
  [ -n "$check" ] || [ $# -gt 0 ] || usage
  command=("$@")
}

require_host() {
  local tool architecture
  architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)
  [ "$architecture" = amd64 ] ||
    skip "it is made for amd64 with Debian's or Ubuntu's packages, and this is $architecture"
  # tool:package
  for tool in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static modprobe:kmod cpio:cpio \
    xz:xz-utils ip:iproute2 rdma:iproute2; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${tool%%:*}" >/dev/null ||
      skip "${tool%%:*} is missing (package ${tool#*:})"
  done
  PATH=$PATH:/usr/sbin:/sbin
}

# Whether KVM runs guest code at all: a /dev/kvm that opens proves nothing. A ROM of three instructions
# leaves through the debug exit device with status 2 * 0x21 + 1; a KVM that hangs is killed.
kvm_runs_code() {
  local rom=$control/rom status=0
  [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
  truncate -s 65536 "$rom"
  printf '\xb0\x21\xe6\xf4\xf4' | dd of="$rom" bs=1 seek=65520 conv=notrunc status=none  # mov al,0x21; out 0xf4,al; hlt
  timeout -k 1 3 qemu-system-x86_64 -M pc -accel kvm -m 16 -nodefaults -no-user-config -display none -no-reboot \
    -bios "$rom" -device isa-debug-exit,iobase=0xf4,iosize=1 </dev/null >/dev/null 2>&1 || status=$?
  [ "$status" -eq 67 ]
}

# Whether our guest comes up under KVM: some run such a ROM, and no kernel.
kvm_runs_guest() {
  local network=none memlock='' shares=() command=(true) accel=kvm
  write_control
  start_guest "$kKvmSeconds"
  wait "$qemu" 2>/dev/null || :
  qemu=
  [ "$(cat "$control/status" 2>/dev/null)" = 0 ]
}

# Sets accel to kvm or tcg. The answer holds until this machine boots again.
choose_accel() {
  local verdict
  [ "$accel" = auto ] || return 0
  verdict=$cache/kvm-$(id -u)-$(cat /proc/sys/kernel/random/boot_id)
  if [ ! -e "$verdict" ]; then
    exec 9>"$cache/lock"
    flock -w "$kLockSeconds" 9 || skip "another start has held $cache/lock for $kLockSeconds s"
    if [ ! -e "$verdict" ]; then
      rm -f "$cache/kvm-$(id -u)"-*
      if kvm_runs_code && kvm_runs_guest; then echo kvm; else echo tcg; fi >"$control/verdict"
      cp "$control/verdict" "$cache/new.verdict"
      mv "$cache/new.verdict" "$verdict"
    fi
    exec 9>&-
  fi
  accel=$(cat "$verdict")
}

# Prints $1 as one word of the shell.
quote() { printf "'%s' " "${1//\'/\'\\\'\'}"; }

# The command as the guest's shell runs it: the caller's environment, folder, words. A limit of locked
# memory means nothing to a process that may exceed it: those rights go, too.
write_command() {
  local entry word
  while IFS= read -r -d '' entry; do
    [[ ${entry%%=*} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || continue
    printf 'export %s=%s\n' "${entry%%=*}" "$(quote "${entry#*=}")"
  done < <(env -0)
  printf 'cd %s || exit\n' "$(quote "$PWD")"
  printf 'exec '
  [ -z "$memlock" ] || printf '%s ' /usr/bin/prlimit "--memlock=$memlock:$memlock" \
    /usr/bin/setpriv --bounding-set=-ipc_lock,-sys_resource --inh-caps=-ipc_lock,-sys_resource --
  for word in "${command[@]}"; do quote "$word"; done
}

# What the guest's second stage reads, and where it writes; the devices for it.
write_control() {
  local share index=0
  cp "$here/stage2.sh" "$control/stage2.sh"
  write_command >"$control/command"
  : >"$control/shares"
  : >"$control/out"
  : >"$control/err"
  devices=()
  for share in "${shares[@]}"; do
    echo "share$index $share" >>"$control/shares"
    devices+=(-virtfs "local,path=${share//,/,,},mount_tag=share$index,security_model=none,multidevs=remap")
    index=$((index + 1))
  done
  case $network in [12]:*)
    local me=${network%%:*} cable
    cable=$(realpath -e "${network#*:}")
    devices+=(-netdev "dgram,id=n,local.type=unix,local.path=$cable/$me,remote.type=unix,remote.path=$cable/$((3 - me))"
      -device "virtio-net-pci,netdev=n,mac=02:00:0a:09:00:0$me,host_mtu=9000");;
  esac
}

# Starts QEMU, limited to the given seconds; sets qemu to the process to wait for. It dies with us,
# however we die.
start_guest() {
  local cpu append="console=ttyS0 panic=-1 mitigations=off random.trust_cpu=on avec.network=${network%%:*} $idle_poll"
  # Seconds of emulation that nobody here profits from: self-tests, a check of the page tables, certificates.
  append+=" cryptomgr.notests rodata=off initcall_blacklist=load_system_certificate_list,init_kprobe_trace"
  rm -f "$control/status" "$control/pid"
  case $accel in
    kvm) cpu=(-accel kvm -cpu host);;
    # -monitor: an idle CPU in MWAIT sleeps until the next tick under emulation. -erms: REP MOVSB is slow there.
    tcg) cpu=(-accel "tcg,thread=multi" -cpu "max,-monitor,-erms"); append+=" tsc=reliable";;
  esac
  setpriv --pdeathsig TERM timeout -k 5 "$1" setpriv --pdeathsig KILL qemu-system-x86_64 -M q35 "${cpu[@]}" \
    -smp "$cpus" -m "$memory" -nodefaults -no-user-config -display none -no-reboot -name avec-guest,debug-threads=on \
    -pidfile "$control/pid" -serial "file:$kernel_log" -kernel "$kernel" -initrd "$initrd" -append "$append" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -virtfs "local,path=${control//,/,,},mount_tag=control,security_model=none" "${devices[@]}" \
    </dev/null >"$control/qemu" 2>&1 &
  qemu=$!
}

# Each of the guest's CPUs on one of the host's, where there are enough: left to itself the host at
# times runs them all on one.
pin_guest() {
  local allowed=() range cpu task name pinned=0 attempt
  [ "$pin" != none ] || return 0
  for range in $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status | tr , ' '); do
    for ((cpu = ${range%-*}; cpu <= ${range#*-}; cpu++)); do allowed+=("$cpu"); done
  done
  [ "${#allowed[@]}" -ge $((pin + cpus)) ] || return 0
  for ((attempt = 0; attempt < 20 && pinned < cpus; attempt++)); do
    sleep 0.1
    pinned=0
    for task in /proc/"$(cat "$control/pid")"/task/*; do
      name=$(cat "$task/comm") || continue
      [[ $name == "CPU "* ]] || continue
      name=${name#CPU }
      taskset -pc "${allowed[pin + ${name%%/*}]}" "${task##*/}" >/dev/null && pinned=$((pinned + 1))
    done
  done
}

# However this ends. The image's unfinished work goes, too.
# shellcheck disable=SC2317  # called by the trap
clean_up() {
  if [ -n "$qemu" ]; then
    kill "$qemu" || :
    wait "$qemu" || :
  fi 2>/dev/null
  rm -rf "$control" ${work:+"$work"}
}

run_guest() {
  local status=0 readers=()
  start_guest "$limit"
  pin_guest 2>/dev/null || :
  tail -n +1 -s 0.1 -f --pid="$qemu" "$control/out" & readers+=($!)
  tail -n +1 -s 0.1 -f --pid="$qemu" "$control/err" >&2 & readers+=($!)
  wait "$qemu" || status=$?
  qemu=
  wait "${readers[@]}" || :
  [ ! -s "$control/status" ] || exit "$(cat "$control/status")"
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
    echo "avec: the RDMA guest was stopped at its time limit of $limit s" >&2
    exit "$kTimeLimit"
  fi
  echo "avec: the RDMA guest broke down (QEMU's status: $status); its last words:" >&2
  tail -n 60 "$kernel_log" "$control/qemu" >&2 || :
  exit "$kBroken"
}

ulimit -c 0  # a KVM that does not work makes QEMU abort
parse_options "$@"
require_host
# shellcheck source=tests/rdma_guest/image.sh
. "$here/image.sh"
qemu='' kernel='' initrd='' work='' control=$(mktemp -d "${TMPDIR:-/tmp}/avec-rdma-guest.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
: "${kernel_log:=$control/kernel_log}"
mkdir -p "$cache" 2>/dev/null || :
[ -w "$cache" ] || skip "its kernel can not be kept in $cache"
prepare_image
choose_accel
if [ -n "$check" ]; then
  case $accel in tcg) how=emulation;; *) how=KVM;; esac
  echo "avec: the RDMA guest runs $(cat "$cache/kernel/version") under $how"
  exit 0
fi
write_control
run_guest
