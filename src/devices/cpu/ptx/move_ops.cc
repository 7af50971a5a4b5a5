// mov, cvta, isspacep, special registers ("PTX ISA", 9.7.9 and 10).
#include <algorithm>
#include <chrono>

#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

template <class T>
struct Same {
  static T f(T a) { return a; }
};

enum class Special : std::uint8_t {
  kTidX, kTidY, kTidZ, kNtidX, kNtidY, kNtidZ, kCtaidX, kCtaidY, kCtaidZ, kNctaidX, kNctaidY, kNctaidZ, kLaneid,
  kWarpid, kNwarpid, kSmid, kNsmid, kGridid, kClock, kClockHi, kClock64, kGlobaltimer, kGlobaltimerLo, kGlobaltimerHi,
  kMaskEq, kMaskLe, kMaskLt, kMaskGe, kMaskGt, kDynamicShared, kTotalShared, kAggregateShared, kEnvreg1, kEnvreg2, kZero, kOne
};

struct NamedSpecial {
  std::string_view name;
  Special special;
};

// Clusters are one block: their ids are 0, their sizes 1.
constexpr NamedSpecial kSpecials[] = {
    {"%tid.x", Special::kTidX}, {"%tid.y", Special::kTidY}, {"%tid.z", Special::kTidZ},
    {"%ntid.x", Special::kNtidX}, {"%ntid.y", Special::kNtidY}, {"%ntid.z", Special::kNtidZ},
    {"%ctaid.x", Special::kCtaidX}, {"%ctaid.y", Special::kCtaidY}, {"%ctaid.z", Special::kCtaidZ},
    {"%nctaid.x", Special::kNctaidX}, {"%nctaid.y", Special::kNctaidY}, {"%nctaid.z", Special::kNctaidZ},
    {"%clusterid.x", Special::kCtaidX}, {"%clusterid.y", Special::kCtaidY}, {"%clusterid.z", Special::kCtaidZ},
    {"%nclusterid.x", Special::kNctaidX}, {"%nclusterid.y", Special::kNctaidY}, {"%nclusterid.z", Special::kNctaidZ},
    {"%cluster_ctaid.x", Special::kZero}, {"%cluster_ctaid.y", Special::kZero}, {"%cluster_ctaid.z", Special::kZero},
    {"%cluster_nctaid.x", Special::kOne}, {"%cluster_nctaid.y", Special::kOne}, {"%cluster_nctaid.z", Special::kOne},
    {"%cluster_ctarank", Special::kZero}, {"%cluster_nctarank", Special::kOne},
    {"%laneid", Special::kLaneid}, {"%warpid", Special::kWarpid}, {"%nwarpid", Special::kNwarpid},
    {"%smid", Special::kSmid}, {"%nsmid", Special::kNsmid}, {"%gridid", Special::kGridid},
    {"%clock", Special::kClock}, {"%clock_hi", Special::kClockHi}, {"%clock64", Special::kClock64},
    {"%globaltimer", Special::kGlobaltimer}, {"%globaltimer_lo", Special::kGlobaltimerLo},
    {"%globaltimer_hi", Special::kGlobaltimerHi},
    {"%lanemask_eq", Special::kMaskEq}, {"%lanemask_le", Special::kMaskLe}, {"%lanemask_lt", Special::kMaskLt},
    {"%lanemask_ge", Special::kMaskGe}, {"%lanemask_gt", Special::kMaskGt},
    {"%dynamic_smem_size", Special::kDynamicShared}, {"%total_smem_size", Special::kTotalShared},
    {"%aggr_smem_size", Special::kAggregateShared}, {"%reserved_smem_offset_begin", Special::kZero},
    {"%reserved_smem_offset_end", Special::kZero}, {"%reserved_smem_offset_cap", Special::kZero},
    {"%reserved_smem_offset_0", Special::kZero}, {"%reserved_smem_offset_1", Special::kZero},
    {"%current_graph_exec", Special::kZero}, {"%pm0", Special::kZero}, {"%pm1", Special::kZero},
};

u64 nanoseconds() {
  return static_cast<u64>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                              std::chrono::system_clock::now().time_since_epoch()).count());
}

u64 cycles() {
  return static_cast<u64>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                              std::chrono::steady_clock::now().time_since_epoch()).count());
}

/// The same for all lanes of a warp.
u64 uniform_special(const Warp& w, const Block& block, const Run& run, Special special) {
  const Launch& launch = run.launch();
  const auto part = [&](Special first) { return static_cast<std::size_t>(special) - static_cast<std::size_t>(first); };
  switch (special) {
    case Special::kNtidX:
    case Special::kNtidY:
    case Special::kNtidZ: return launch.block[part(Special::kNtidX)];
    case Special::kCtaidX:
    case Special::kCtaidY:
    case Special::kCtaidZ: return block.id()[part(Special::kCtaidX)];
    case Special::kNctaidX:
    case Special::kNctaidY:
    case Special::kNctaidZ: return launch.grid[part(Special::kNctaidX)];
    case Special::kWarpid: return w.index();
    case Special::kNwarpid: return block.warp_count();
    case Special::kSmid: return block.worker();
    case Special::kNsmid: return run.workers();
    case Special::kGridid: return run.id();
    case Special::kClock: return static_cast<u32>(cycles());
    case Special::kClockHi: return cycles() >> 32;
    case Special::kClock64: return cycles();
    case Special::kGlobaltimer: return nanoseconds();
    case Special::kGlobaltimerLo: return static_cast<u32>(nanoseconds());
    case Special::kGlobaltimerHi: return nanoseconds() >> 32;
    case Special::kDynamicShared: return launch.dynamic_shared_bytes;
    case Special::kTotalShared:
    case Special::kAggregateShared: return block.shared_bytes();
    case Special::kEnvreg1: return run.workspace() >> 32;
    case Special::kEnvreg2: return static_cast<u32>(run.workspace());
    case Special::kOne: return 1;
    default: return 0;
  }
}

u64 lane_special(const Launch& launch, Special special, u32 thread, u32 lane) {
  const u32 x = launch.block[0], y = launch.block[1];
  switch (special) {
    case Special::kTidX: return thread % x;
    case Special::kTidY: return thread / x % y;
    case Special::kTidZ: return thread / x / y;
    case Special::kLaneid: return lane;
    case Special::kMaskEq: return u32{1} << lane;
    case Special::kMaskLt: return (u32{1} << lane) - 1;
    case Special::kMaskLe: return static_cast<u32>((u64{2} << lane) - 1);
    case Special::kMaskGt: return ~static_cast<u32>((u64{2} << lane) - 1);
    default: return ~((u32{1} << lane) - 1);  // kMaskGe
  }
}

void store(Warp& w, const Instruction& in, unsigned lane, u64 value) {
  if (in.width == 2) w.out<u16>(in.d)[lane] = static_cast<u16>(value);
  else if (in.width == 4) w.out<u32>(in.d)[lane] = static_cast<u32>(value);
  else w.out<u64>(in.d)[lane] = value;
}

void same_for_all(Warp& w, const Instruction& in, Mask mask, u64 value) {
  for_lanes(mask, [&](unsigned i) { store(w, in, i, value); });
}

void local_address(Warp& w, const Instruction& in, Mask mask) {
  same_for_all(w, in, mask, static_cast<u64>(in.immediate) + w.frame().local_base);
}
void dynamic_shared_address(Warp& w, const Instruction& in, Mask mask) {
  same_for_all(w, in, mask, static_cast<u64>(in.immediate) + w.block().dynamic_shared_at());
}
void kernel_parameter_address(Warp& w, const Instruction& in, Mask mask) {
  same_for_all(w, in, mask, w.launch().parameters_address() + static_cast<u64>(in.immediate));
}

/// flag: towards the window; immediate: the window.
void convert_address(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    const u64 a = in.bytes == 4 ? w.in<u32>(in.a)[i] : w.in<u64>(in.a)[i];
    store(w, in, i, a + static_cast<u64>(in.immediate));
  });
}

void in_space(Warp& w, const Instruction& in, Mask mask) {
  Mask result = 0;
  for_lanes(mask, [&](unsigned i) {
    const u64 a = w.in<u64>(in.a)[i];
    const bool shared = in_window(a, kSharedWindow), local = in_window(a, kLocalWindow);
    bool is = false;
    switch (in.space) {
      case Space::kShared: is = shared; break;
      case Space::kLocal: is = local; break;
      case Space::kConst: is = w.launch().is_constant(a); break;
      case Space::kParameter: is = a - w.launch().parameters_address() < w.launch().parameter_bytes(); break;
      default: is = !shared && !local && !w.launch().is_constant(a);
    }
    result |= Mask{is} << i;
  });
  w.set_predicate(in.d, result, mask);
}

Handler copy(unsigned width) {
  return width == 2 ? unary<Same<u16>, u16, u16> : width == 4 ? unary<Same<u32>, u32, u32> : unary<Same<u64>, u64, u64>;
}

Type bits_type(unsigned bytes) {
  return bytes <= 2 ? Type::kB16 : bytes == 4 ? Type::kB32 : Type::kB64;
}

/// mov.b64 d, {a, b}: vectors hold the parts, bytes is the width of a part.
void pack(Warp& w, const Instruction& in, Mask mask) {
  const std::vector<Ref>& parts = w.frame().function->vectors[in.extra];
  for_lanes(mask, [&](unsigned i) {
    u64 value = 0;
    for (std::size_t k = 0; k < parts.size(); ++k) {
      const u64 part = in.bytes == 4 ? w.in<u32>(parts[k])[i] : in.bytes == 2 ? w.in<u16>(parts[k])[i] : w.in<u16>(parts[k])[i] & 0xFFu;
      value |= part << (8 * in.bytes * k);
    }
    store(w, in, i, value);
  });
}

void unpack(Warp& w, const Instruction& in, Mask mask) {
  const std::vector<Ref>& parts = w.frame().function->vectors[in.extra];
  for_lanes(mask, [&](unsigned i) {
    const u64 value = in.width == 2 ? w.in<u16>(in.a)[i] : in.width == 4 ? w.in<u32>(in.a)[i] : w.in<u64>(in.a)[i];
    for (std::size_t k = 0; k < parts.size(); ++k) {
      if (parts[k] == kNoRef) continue;
      const u64 part = value >> (8 * in.bytes * k);
      if (in.bytes == 4) w.out<u32>(parts[k])[i] = static_cast<u32>(part);
      else w.out<u16>(parts[k])[i] = static_cast<u16>(in.bytes == 1 ? part & 0xFF : part);
    }
  });
}

void move_vector(Decoder& d, Type type) {
  const bool packs = d.operand(1).kind == OperandKind::kVector;
  const SyntaxOperand& vector = d.operand(packs ? 1 : 0);
  const std::size_t n = vector.items.size();
  if ((n != 2 && n != 4) || bytes_of(type) < n || bytes_of(type) > 8) {
    if (type == Type::kB128) throw Unsupported{};
    d.mismatch();
  }
  Instruction in;
  in.width = static_cast<std::uint8_t>(bytes_of(type));
  in.bytes = static_cast<std::uint8_t>(bytes_of(type) / n);
  const Type part = in.bytes == 1 ? Type::kB8 : bits_type(in.bytes);
  std::vector<Ref> parts;
  for (const SyntaxOperand& item : vector.items) {
    if (packs) parts.push_back(d.source(item, part));
    else parts.push_back(item.kind == OperandKind::kSink ? kNoRef : d.destination(item, part));
  }
  in.run = packs ? pack : unpack;
  in.extra = static_cast<u32>(d.function().vectors.size());
  d.function().vectors.push_back(std::move(parts));
  if (packs) in.d = d.destination(d.operand(0), bits_type(bytes_of(type)));
  else in.a = d.source(d.operand(1), bits_type(bytes_of(type)));
  d.emit(in);
}

void move_predicate(Warp& w, const Instruction& in, Mask mask) {
  const Mask value = in.a == kNoRef ? static_cast<Mask>(-in.immediate) : w.predicate(in.a);
  w.set_predicate(in.d, in.flag ? ~value : value, mask);
}

void move(Decoder& d) {
  const Type type = d.need_type();
  d.finish_modifiers();
  d.need_operands(2, 2);
  if (type == Type::kPred) {
    Instruction in;
    in.run = move_predicate;
    const SyntaxOperand& from = d.operand(1);
    if (from.kind == OperandKind::kInteger) in.immediate = from.bits != 0;
    else in.a = d.predicate(from);
    in.flag = from.negated;
    in.d = d.predicate_destination(d.operand(0));
    d.emit(in);
    return;
  }
  if (type == Type::kB128) return move_wide(d);
  if (d.operand(0).kind == OperandKind::kVector || d.operand(1).kind == OperandKind::kVector) return move_vector(d, type);
  const unsigned width = register_bytes(bytes_of(type));
  const Ref from = d.source(d.operand(1), type);
  d.emit(copy(width), d.destination(d.operand(0), type), from);
}

u64 window_of(Decoder& d, Space space) {
  switch (space) {
    case Space::kShared: return kSharedWindow;
    case Space::kLocal: return kLocalWindow;
    case Space::kGlobal:
    case Space::kConst:
    case Space::kParameter: return 0;
    default: d.mismatch();
  }
}

void convert_address_opcode(Decoder& d) {
  const bool to = d.take("to");
  const Space space = d.take_space(Space::kGeneric);
  const Type type = d.need_type();
  d.finish_modifiers();
  d.need_operands(2, 2);
  const u64 window = window_of(d, space);
  Instruction in;
  in.run = convert_address;
  in.immediate = static_cast<s64>(to ? 0 - window : window);
  in.width = in.bytes = static_cast<std::uint8_t>(bytes_of(type));
  const SyntaxOperand& from = d.operand(1);
  if (from.kind == OperandKind::kSymbol && !to) {
    if (in.width != 8) d.mismatch();
    const Ref address = d.symbol_address(from, space, true);
    d.emit(copy(8), d.destination(d.operand(0), type), address);
    return;
  }
  in.a = d.source(from, type);
  in.d = d.destination(d.operand(0), type);
  d.emit(in);
}

/// alloca: each lane's bytes in a; the largest counts for all. What it gives lives until the
/// function returns: stackrestore gives nothing back earlier.
void grow_stack(Warp& w, const Instruction& in, Mask mask) {
  u64 bytes = 0;
  for_lanes(mask, [&](unsigned i) { bytes = std::max(bytes, in.bytes == 4 ? u64{w.in<u32>(in.a)[i]} : w.in<u64>(in.a)[i]); });
  same_for_all(w, in, mask, w.grow_local(bytes, static_cast<u64>(in.immediate)));
}

void grow_stack_opcode(Decoder& d) {
  Instruction in;
  const Type type = d.need_type();
  if (type != Type::kU32 && type != Type::kU64) d.mismatch();
  d.finish_modifiers();
  d.need_operands(2, 3);
  const u64 alignment = d.operand_count() == 3 ? d.immediate(d.operand(2)) : 8;
  if (alignment == 0 || alignment > 65536 || (alignment & (alignment - 1)) != 0) d.mismatch();
  in.run = grow_stack;
  in.immediate = static_cast<s64>(std::max<u64>(alignment, 16));
  in.width = in.bytes = static_cast<std::uint8_t>(bytes_of(type));
  in.a = d.source(d.operand(1), type);
  in.d = d.destination(d.operand(0), type);
  d.emit(in);
}

void in_space_opcode(Decoder& d) {
  Instruction in;
  in.run = in_space;
  in.space = d.take_space(Space::kGeneric);
  if (in.space == Space::kGeneric) d.mismatch();
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.a = d.source(d.operand(1), Type::kU64);
  in.d = d.predicate_destination(d.operand(0));
  d.emit(in);
}

}  // namespace

int special_register(std::string_view name) {
  if (name.starts_with("%envreg")) {
    if (name == "%envreg1") return static_cast<int>(Special::kEnvreg1);
    if (name == "%envreg2") return static_cast<int>(Special::kEnvreg2);
    return static_cast<int>(Special::kZero);
  }
  for (const NamedSpecial& known : kSpecials) {
    if (known.name == name) return static_cast<int>(known.special);
  }
  return -1;
}

void move_special(Warp& w, const Instruction& in, Mask mask) {
  const auto special = static_cast<Special>(in.immediate);
  const bool per_lane = special <= Special::kTidZ || special == Special::kLaneid ||
                        (special >= Special::kMaskEq && special <= Special::kMaskGt);
  if (!per_lane) return same_for_all(w, in, mask, uniform_special(w, w.block(), w.launch(), special));
  const u32 first = w.index() * kLanes;
  for_lanes(mask, [&](unsigned i) { store(w, in, i, lane_special(w.launch().launch(), special, first + i, i)); });
}

Handler move_local_address() { return local_address; }
Handler move_dynamic_shared() { return dynamic_shared_address; }
Handler move_kernel_parameter_address() { return kernel_parameter_address; }

void add_move_opcodes(Decoder::Table& t) {
  t["mov"] = move;
  t["cvta"] = convert_address_opcode;
  t["isspacep"] = in_space_opcode;
  t["alloca"] = grow_stack_opcode;
  t["stacksave"] = [](Decoder& d) {
    const Type type = d.need_type();
    d.emit(copy(bytes_of(type)), d.destination(d.operand(0), type), d.constant(bytes_of(type), 0));
  };
  t["stackrestore"] = [](Decoder& d) { d.drop_modifiers(); };
}

}  // namespace avec::cpu::ptx
