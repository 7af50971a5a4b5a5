// Video instructions ("PTX ISA", 9.7.17), without selectors of bytes and halves: on whole
// registers, on two halves, on four bytes.
#include <algorithm>

#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

enum Operation : std::uint8_t { kAdd, kSubtract, kDifference, kMinimum, kMaximum, kAverage };
enum Second : std::uint8_t { kNone, kSum, kLeast, kGreatest };

s64 part(u32 bits, unsigned at, unsigned width, bool is_signed) {
  const auto high = static_cast<u32>(bits << (32 - at - width));
  return is_signed ? static_cast<s64>(static_cast<s32>(high) >> (32 - width)) : static_cast<s64>(high >> (32 - width));
}

s64 apply(std::uint8_t code, s64 a, s64 b) {
  switch (code) {
    case kAdd: return a + b;
    case kSubtract: return a - b;
    case kDifference: return a > b ? a - b : b - a;
    case kMinimum: return std::min(a, b);
    case kMaximum: return std::max(a, b);
    default: return (a + b + (a + b >= 0 ? 1 : 0)) >> 1;
  }
}

s64 saturate(s64 value, unsigned width, bool is_signed) {
  const s64 least = is_signed ? -(s64{1} << (width - 1)) : 0;
  return std::clamp(value, least, least + (s64{1} << width) - 1);
}

/// width: of a part, in bits. flag, flag2: a, b are signed; is_signed: the result is. mode: the
/// second operation, with c. count: whether results saturate.
void video(Warp& w, const Instruction& in, Mask mask) {
  const unsigned width = in.width;
  const u32 part_mask = width == 32 ? ~u32{0} : (u32{1} << width) - 1;
  for_lanes(mask, [&](unsigned i) {
    const u32 a = w.in<u32>(in.a)[i], b = w.in<u32>(in.b)[i];
    const u32 c = in.c == kNoRef ? 0 : w.in<u32>(in.c)[i];
    u32 parts = 0, sum = c;
    for (unsigned at = 0; at < 32; at += width) {
      s64 value = apply(in.code, part(a, at, width, in.flag), part(b, at, width, in.flag2));
      if (in.count != 0) value = saturate(value, width, in.is_signed);
      const u32 bits = static_cast<u32>(value) & part_mask;
      parts |= bits << at;
      sum += static_cast<u32>(part(bits, 0, width, in.is_signed));
    }
    const auto compare = [&](u32 x, u32 y) { return in.is_signed ? static_cast<s32>(x) < static_cast<s32>(y) : x < y; };
    switch (in.mode) {
      case kSum: parts = sum; break;
      case kLeast: parts = compare(c, parts) ? c : parts; break;
      case kGreatest: parts = compare(parts, c) ? c : parts; break;
      default: break;
    }
    w.out<u32>(in.d)[i] = parts;
  });
}

template <Operation kOperation, unsigned kWidth>
void decode(Decoder& d) {
  Instruction in;
  in.run = video;
  in.code = kOperation;
  in.width = kWidth;
  const Type result = d.need_type(), a = d.need_type(), b = d.need_type();
  if (bytes_of(result) != 4 || bytes_of(a) != 4 || bytes_of(b) != 4) d.mismatch();
  in.is_signed = is_signed(result);
  in.flag = is_signed(a);
  in.flag2 = is_signed(b);
  in.count = d.take("sat") ? 1 : 0;
  const int second = kWidth == 32 ? d.take_any({"add", "min", "max"}) : d.take("add") ? 0 : -1;
  in.mode = static_cast<std::uint8_t>(second + 1);
  if (!d.left().empty()) throw Unsupported{};
  const std::size_t least = kWidth != 32 || second >= 0 ? 4 : 3;
  d.need_operands(least, least);
  in.a = d.source(d.operand(1), Type::kB32);
  in.b = d.source(d.operand(2), Type::kB32);
  if (least == 4) in.c = d.source(d.operand(3), Type::kB32);
  in.d = d.destination(d.operand(0), Type::kB32);
  d.emit(in);
}

}  // namespace

void add_video_opcodes(Decoder::Table& t) {
  t["vadd"] = decode<kAdd, 32>;
  t["vsub"] = decode<kSubtract, 32>;
  t["vabsdiff"] = decode<kDifference, 32>;
  t["vmin"] = decode<kMinimum, 32>;
  t["vmax"] = decode<kMaximum, 32>;
  t["vadd2"] = decode<kAdd, 16>;
  t["vsub2"] = decode<kSubtract, 16>;
  t["vavrg2"] = decode<kAverage, 16>;
  t["vabsdiff2"] = decode<kDifference, 16>;
  t["vmin2"] = decode<kMinimum, 16>;
  t["vmax2"] = decode<kMaximum, 16>;
  t["vadd4"] = decode<kAdd, 8>;
  t["vsub4"] = decode<kSubtract, 8>;
  t["vavrg4"] = decode<kAverage, 8>;
  t["vabsdiff4"] = decode<kDifference, 8>;
  t["vmin4"] = decode<kMinimum, 8>;
  t["vmax4"] = decode<kMaximum, 8>;
}

}  // namespace avec::cpu::ptx
