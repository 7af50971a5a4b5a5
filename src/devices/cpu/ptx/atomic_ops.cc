// atom and red ("PTX ISA", 9.7.13): real atomics of the host, since blocks run in parallel.
#include "devices/cpu/ptx/float_math.h"
#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

enum Operation : std::uint8_t { kAdd, kMin, kMax, kInc, kDec, kAnd, kOr, kXor, kExch, kCas };

/// Replaces the value at `p` by f(value); what it was.
template <class T, class F>
T update(std::byte* p, F&& f) {
  auto* at = reinterpret_cast<T*>(p);
  T old = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(at, &old, f(old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
  return old;
}

template <class T>
T apply_integer(std::uint8_t code, T old, T b, T c) {
  switch (code) {
    case kAdd: return static_cast<T>(static_cast<u64>(old) + static_cast<u64>(b));
    case kMin: return old < b ? old : b;
    case kMax: return old > b ? old : b;
    case kInc: return old >= b ? T{0} : static_cast<T>(old + 1);
    case kDec: return old == 0 || old > b ? b : static_cast<T>(old - 1);
    case kAnd: return old & b;
    case kOr: return old | b;
    case kXor: return old ^ b;
    case kExch: return b;
    default: return old == b ? c : old;  // kCas
  }
}

template <class T>
T apply_float(std::uint8_t code, T old, T b) {
  return code == kAdd ? canonical(old + b) : code == kMin ? minimum(old, b) : maximum(old, b);
}

template <class H>
u16 apply_half(std::uint8_t code, u16 old, u16 b) {
  const double x = H::widen(old), y = H::widen(b);
  return H::round(code == kAdd ? x + y : code == kMin ? minimum(x, y) : maximum(x, y));
}

template <class H>
u32 apply_half2(std::uint8_t code, u32 old, u32 b) {
  return apply_half<H>(code, static_cast<u16>(old), static_cast<u16>(b)) |
         static_cast<u32>(apply_half<H>(code, static_cast<u16>(old >> 16), static_cast<u16>(b >> 16))) << 16;
}

/// T: the bits in memory. F: the new value from old, b and c.
template <class T, class F>
void each_lane(Warp& w, const Instruction& in, Mask mask, F&& f) {
  if (!w.resolve(in, mask, sizeof(T), true)) return;
  for_lanes(mask, [&](unsigned i) {
    const T b = w.in<T>(in.b)[i];
    const T c = in.c == kNoRef ? T{} : w.in<T>(in.c)[i];
    const T old = update<T>(w.pointer(i), [&](T value) { return f(value, b, c); });
    if (in.d != kNoRef) w.out<T>(in.d)[i] = old;
  });
}

template <class T>
void integer(Warp& w, const Instruction& in, Mask mask) {
  each_lane<T>(w, in, mask, [&](T old, T b, T c) { return apply_integer<T>(in.code, old, b, c); });
}
void single(Warp& w, const Instruction& in, Mask mask) {
  each_lane<u32>(w, in, mask, [&](u32 old, u32 b, u32) {
    return std::bit_cast<u32>(apply_float(in.code, std::bit_cast<float>(old), std::bit_cast<float>(b)));
  });
}
void twofold(Warp& w, const Instruction& in, Mask mask) {
  each_lane<u64>(w, in, mask, [&](u64 old, u64 b, u64) {
    return std::bit_cast<u64>(apply_float(in.code, std::bit_cast<double>(old), std::bit_cast<double>(b)));
  });
}
template <class H>
void half(Warp& w, const Instruction& in, Mask mask) {
  each_lane<u16>(w, in, mask, [&](u16 old, u16 b, u16) { return apply_half<H>(in.code, old, b); });
}
template <class H>
void half2(Warp& w, const Instruction& in, Mask mask) {
  each_lane<u32>(w, in, mask, [&](u32 old, u32 b, u32) { return apply_half2<H>(in.code, old, b); });
}

Handler handler(Decoder& d, Type type, std::uint8_t code) {
  if (is_float(type) && code != kAdd && code != kMin && code != kMax) {
    if (code != kExch && code != kCas) d.mismatch();
    return bytes_of(type) == 4 ? integer<u32> : bytes_of(type) == 8 ? integer<u64> : integer<u16>;
  }
  switch (type) {
    case Type::kU16:
    case Type::kB16: return integer<u16>;
    case Type::kU32:
    case Type::kB32: return integer<u32>;
    case Type::kS32: return integer<s32>;
    case Type::kU64:
    case Type::kB64: return integer<u64>;
    case Type::kS64: return integer<s64>;
    case Type::kF32: return single;
    case Type::kF64: return twofold;
    case Type::kF16: return half<Half>;
    case Type::kBf16: return half<Bfloat>;
    case Type::kF16x2: return half2<Half>;
    case Type::kBf16x2: return half2<Bfloat>;
    default: throw Unsupported{};
  }
}

/// .v2, .v4, .v8 of floats: each element is an atomic operation of its own.
void decode_vector(Decoder& d, Instruction& in, Type type, std::size_t count, bool returns) {
  const std::size_t first = returns ? 1 : 0;
  const SyntaxOperand& values = d.operand(first + 1);
  const SyntaxOperand* results = returns && d.operand(0).kind != OperandKind::kSink ? &d.operand(0) : nullptr;
  if (!is_float(type) || in.code > kMax || (in.space != Space::kGlobal && in.space != Space::kGeneric)) d.mismatch();
  const auto fits = [&](const SyntaxOperand& o) { return o.kind == OperandKind::kVector && o.items.size() == count; };
  if (!fits(values) || (results != nullptr && !fits(*results))) d.mismatch();
  in.run = handler(d, type, in.code);
  d.address(in, d.operand(first));
  const s64 at = in.immediate;
  std::vector<Ref> sources;  // read before the first result is written
  for (const SyntaxOperand& item : values.items) sources.push_back(d.source(item, type));
  for (std::size_t i = 0; i < count; ++i) {
    Instruction one = in;
    one.immediate = at + static_cast<s64>(i * in.bytes);
    one.b = sources[i];
    if (results != nullptr && results->items[i].kind != OperandKind::kSink) one.d = d.destination(results->items[i], type);
    d.emit(one);
  }
}

void decode(Decoder& d, bool returns) {
  Instruction in;
  if (d.take("async")) throw Unsupported{};
  const int vector = d.take_any({"v2", "v4", "v8"});
  const int code = d.take_any({"add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"});
  if (code < 0) d.mismatch();
  in.code = static_cast<std::uint8_t>(code);
  in.space = d.take_space(Space::kGeneric);
  const Type type = d.need_type();
  for (const std::string_view hint : {"relaxed", "acquire", "release", "acq_rel", "sys", "gpu", "cta", "cluster", "noftz", "ftz", "level::cache_hint", "L2::cache_hint"}) d.take(hint);
  d.finish_modifiers();
  const std::size_t first = returns ? 1 : 0;
  const std::size_t sources = code == kCas ? 2 : 1;
  d.need_operands(first + 1 + sources, first + 2 + sources);
  in.costly = true;
  in.bytes = static_cast<std::uint8_t>(bytes_of(type));
  if (vector >= 0) return decode_vector(d, in, type, std::size_t{2} << vector, returns);
  if (type == Type::kB128) {
    if (code != kExch && code != kCas) d.mismatch();
    d.address(in, d.operand(first));
    return exchange_wide(d, in, code == kCas, first);
  }
  in.run = handler(d, type, in.code);
  d.address(in, d.operand(first));
  in.b = d.source(d.operand(first + 1), type);
  if (code == kCas) in.c = d.source(d.operand(first + 2), type);
  if (returns && d.operand(0).kind != OperandKind::kSink) in.d = d.destination(d.operand(0), type);
  d.emit(in);
}

}  // namespace

void add_atomic_opcodes(Decoder::Table& t) {
  t["atom"] = [](Decoder& d) { decode(d, true); };
  t["red"] = [](Decoder& d) { decode(d, false); };
}

}  // namespace avec::cpu::ptx
