// cp.async.bulk and cp.reduce.async.bulk of plain bytes ("PTX ISA", 9.7.9.25.4), done at once: a
// copy that completes early is one of the orders that programs must expect.
#include <cstring>

#include "devices/cpu/ptx/barrier_object.h"
#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

enum Operation : std::uint8_t { kCopy, kAnd, kOr, kXor, kAdd, kInc, kDec, kMin, kMax };

u64 address_in(const Warp& w, Ref ref, bool narrow, s64 offset, bool shared, unsigned lane) {
  const u64 address = (narrow ? w.in<u32>(ref)[lane] : w.in<u64>(ref)[lane]) + static_cast<u64>(offset);
  return shared && !in_window(address, kSharedWindow) ? kSharedWindow + (address & 0xFFFFFFFFu) : address;
}

template <class T>
T combine(std::uint8_t code, T a, T b) {
  switch (code) {
    case kAnd: return static_cast<T>(static_cast<u64>(a) & static_cast<u64>(b));
    case kOr: return static_cast<T>(static_cast<u64>(a) | static_cast<u64>(b));
    case kXor: return static_cast<T>(static_cast<u64>(a) ^ static_cast<u64>(b));
    case kInc: return a >= b ? T{0} : static_cast<T>(a + 1);
    case kDec: return a == T{0} || a > b ? b : static_cast<T>(a - 1);
    case kMin: return a < b ? a : b;
    case kMax: return a > b ? a : b;
    default: return static_cast<T>(a + b);
  }
}
template <class H>
u16 combine_halves(std::uint8_t code, u16 a, u16 b) {
  return H::round(combine<double>(code, H::widen(a), H::widen(b)));
}

/// Each element atomically, as the hardware does.
template <class T, class F>
void reduce_each(std::byte* to, const std::byte* from, u64 bytes, F&& f) {
  for (u64 at = 0; at < bytes; at += sizeof(T)) {
    T b;
    std::memcpy(&b, from + at, sizeof b);
    auto* place = reinterpret_cast<T*>(to + at);
    T old = __atomic_load_n(place, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(place, &old, f(old, b), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
  }
}

template <class F, class T>
void reduce_floats(std::uint8_t code, std::byte* to, const std::byte* from, u64 bytes) {
  reduce_each<T>(to, from, bytes, [&](T a, T b) { return std::bit_cast<T>(combine(code, std::bit_cast<F>(a), std::bit_cast<F>(b))); });
}
template <class T>
void reduce_integers(std::uint8_t code, std::byte* to, const std::byte* from, u64 bytes) {
  using U = std::make_unsigned_t<T>;
  reduce_each<U>(to, from, bytes, [&](U a, U b) {
    return code == kAdd ? static_cast<U>(a + b) : static_cast<U>(combine(code, static_cast<T>(a), static_cast<T>(b)));
  });
}

void transfer(const Instruction& in, std::byte* to, const std::byte* from, u64 bytes) {
  if (in.code == kCopy) {
    std::memmove(to, from, bytes);
    return;
  }
  switch (static_cast<Type>(in.width)) {
    case Type::kF16: reduce_each<u16>(to, from, bytes, [&](u16 a, u16 b) { return combine_halves<Half>(in.code, a, b); }); break;
    case Type::kBf16: reduce_each<u16>(to, from, bytes, [&](u16 a, u16 b) { return combine_halves<Bfloat>(in.code, a, b); }); break;
    case Type::kF32: reduce_floats<float, u32>(in.code, to, from, bytes); break;
    case Type::kF64: reduce_floats<double, u64>(in.code, to, from, bytes); break;
    case Type::kS32: reduce_integers<s32>(in.code, to, from, bytes); break;
    case Type::kS64: reduce_integers<s64>(in.code, to, from, bytes); break;
    case Type::kU64:
    case Type::kB64: reduce_integers<u64>(in.code, to, from, bytes); break;
    default: reduce_integers<u32>(in.code, to, from, bytes);
  }
}

/// a, immediate: to; b, target: from; c: bytes; x: the barrier to tell. flag, flag2, is_signed:
/// registers of b, a and x have 32 bits. mode: bit 0, the target is shared; bit 1, the source is.
void copy(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    if (w.faulted()) return;
    const u64 to = address_in(w, in.a, in.flag2, in.immediate, in.mode & 1, i);
    const u64 from = address_in(w, in.b, in.flag, static_cast<s32>(in.target), in.mode & 2, i);
    const u32 bytes = w.in<u32>(in.c)[i];
    if ((to | from | bytes) % 16 != 0) return w.fault(Fault::kMisalignedAddress);
    if (bytes != 0) {
      const std::byte* source = w.resolve_generic(from, i, bytes, false);
      std::byte* target = source == nullptr ? nullptr : w.resolve_generic(to, i, bytes, true);
      if (target == nullptr) return;
      transfer(in, target, source, bytes);
    }
    if (in.x == kNoRef) return;
    std::byte* barrier = w.resolve_generic(address_in(w, in.x, in.is_signed, static_cast<s32>(in.extra), true, i), i, 8, true);
    if (barrier != nullptr) complete_bytes(barrier, bytes);
  });
}

}  // namespace

void bulk_copy_opcode(Decoder& d, bool reduces) {
  if (d.take("commit_group") || d.take("wait_group") || d.take("prefetch")) {
    if (d.take("tensor")) throw Unsupported{};
    d.drop_modifiers();
    return;
  }
  if (d.take("tensor") || d.take("multicast::cluster") || d.take("cp_mask") || d.take("ignore_oob")) throw Unsupported{};
  Instruction in, source, barrier;
  in.run = copy;
  // The first state space is the target's.
  const auto space = [&] {
    const std::string_view name = d.left();
    if (name != "shared::cluster" && name != "shared::cta" && name != "global") d.mismatch();
    d.take(name);
    return name == "global" ? Space::kGlobal : Space::kShared;
  };
  in.space = space();
  source.space = space();
  const bool tells = d.take("mbarrier::complete_tx::bytes");
  if (!tells && !d.take("bulk_group")) d.mismatch();
  d.take("L2::cache_hint");
  if (reduces) {
    const int code = d.take_any({"and", "or", "xor", "add", "inc", "dec", "min", "max"});
    if (code < 0) d.mismatch();
    in.code = static_cast<std::uint8_t>(code + 1);
    d.take("noftz");
    in.width = static_cast<std::uint8_t>(d.need_type());
    if (bytes_of(static_cast<Type>(in.width)) < 2) d.mismatch();
  }
  d.finish_modifiers();
  d.need_operands(tells ? 4 : 3, tells ? 5 : 4);
  in.mode = static_cast<std::uint8_t>((in.space == Space::kShared ? 1 : 0) | (source.space == Space::kShared ? 2 : 0));
  d.address(in, d.operand(0));
  d.address(source, d.operand(1));
  in.b = source.a;
  in.flag = source.flag2;
  in.target = static_cast<u32>(source.immediate);
  in.c = d.source(d.operand(2), Type::kU32);
  if (tells) {
    barrier.space = Space::kShared;
    d.address(barrier, d.operand(3));
    in.x = barrier.a;
    in.is_signed = barrier.flag2;
    in.extra = static_cast<u32>(barrier.immediate);
  }
  d.emit(in);
}

}  // namespace avec::cpu::ptx
