// Loads, stores and hints ("PTX ISA", 9.7.9).
#include <cstring>

#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

template <class T>
T load_from(const std::byte* p) {
  return __atomic_load_n(reinterpret_cast<const T*>(p), __ATOMIC_RELAXED);
}

u64 load_bits(const std::byte* p, unsigned bytes) {
  switch (bytes) {
    case 1: return load_from<std::uint8_t>(p);
    case 2: return load_from<u16>(p);
    case 4: return load_from<u32>(p);
    default: return load_from<u64>(p);
  }
}

void store_bits(std::byte* p, unsigned bytes, u64 value) {
  switch (bytes) {
    case 1: __atomic_store_n(reinterpret_cast<std::uint8_t*>(p), static_cast<std::uint8_t>(value), __ATOMIC_RELAXED); break;
    case 2: __atomic_store_n(reinterpret_cast<u16*>(p), static_cast<u16>(value), __ATOMIC_RELAXED); break;
    case 4: __atomic_store_n(reinterpret_cast<u32*>(p), static_cast<u32>(value), __ATOMIC_RELAXED); break;
    default: __atomic_store_n(reinterpret_cast<u64*>(p), value, __ATOMIC_RELAXED);
  }
}

u64 extend(u64 value, const Instruction& in) {
  if (!in.is_signed) return value;
  const unsigned unused = 64 - 8 * in.bytes;
  return static_cast<u64>(static_cast<s64>(value << unused) >> unused);
}

void put(Warp& w, Ref ref, unsigned width, unsigned lane, u64 value) {
  if (width == 2) w.out<u16>(ref)[lane] = static_cast<u16>(value);
  else if (width == 4) w.out<u32>(ref)[lane] = static_cast<u32>(value);
  else w.out<u64>(ref)[lane] = value;
}

u64 get(const Warp& w, Ref ref, unsigned width, unsigned lane) {
  return width == 2 ? w.in<u16>(ref)[lane] : width == 4 ? w.in<u32>(ref)[lane] : w.in<u64>(ref)[lane];
}

Ref part(Warp& w, const Instruction& in, unsigned k, Ref single) {
  return in.count == 1 ? single : w.frame().function->vectors[in.extra][k];
}

// mode: 0 weak, 1 acquire or release.
void load(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, in.bytes * in.count, false)) return;
  for (unsigned k = 0; k < in.count; ++k) {
    const Ref ref = part(w, in, k, in.d);
    if (ref == kNoRef) continue;
    if (in.bytes == 4 && in.width == 4) {
      u32* d = w.out<u32>(ref);
      for_lanes(mask, [&](unsigned i) { d[i] = load_from<u32>(w.pointer(i) + 4 * k); });
    } else {
      for_lanes(mask, [&](unsigned i) { put(w, ref, in.width, i, extend(load_bits(w.pointer(i) + in.bytes * k, in.bytes), in)); });
    }
  }
  if (in.mode != 0) __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void store(Warp& w, const Instruction& in, Mask mask) {
  if (!w.resolve(in, mask, in.bytes * in.count, true)) return;
  if (in.mode != 0) __atomic_thread_fence(__ATOMIC_SEQ_CST);
  // Lane by lane: where lanes overlap, the highest wins whole.
  for_lanes(mask, [&](unsigned i) {
    for (unsigned k = 0; k < in.count; ++k) {
      store_bits(w.pointer(i) + in.bytes * k, in.bytes, get(w, part(w, in, k, in.b), in.width, i));
    }
  });
}

void load_kernel_parameter(Warp& w, const Instruction& in, Mask mask) {
  for (unsigned k = 0; k < in.count; ++k) {
    u64 value = 0;
    std::memcpy(&value, w.launch().parameters() + in.immediate + in.bytes * k, in.bytes);
    value = extend(value, in);
    const Ref ref = part(w, in, k, in.d);
    if (ref != kNoRef) for_lanes(mask, [&](unsigned i) { put(w, ref, in.width, i, value); });
  }
}

void load_parameter(Warp& w, const Instruction& in, Mask mask) {
  const std::byte* area = w.parameters();
  for (unsigned k = 0; k < in.count; ++k) {
    const Ref ref = part(w, in, k, in.d);
    const auto at = static_cast<u32>(in.immediate) + in.bytes * k;
    if (ref == kNoRef) continue;
    for_lanes(mask, [&](unsigned i) { put(w, ref, in.width, i, extend(read_parameter(area, at, in.bytes, i), in)); });
  }
}

void store_parameter(Warp& w, const Instruction& in, Mask mask) {
  std::byte* area = w.parameters();
  for (unsigned k = 0; k < in.count; ++k) {
    const Ref ref = part(w, in, k, in.b);
    const auto at = static_cast<u32>(in.immediate) + in.bytes * k;
    for_lanes(mask, [&](unsigned i) { write_parameter(area, at, in.bytes, i, get(w, ref, in.width, i)); });
  }
}

/// cp.async, done at once. bytes to copy; c: bytes that the source has (the rest is zero).
void copy_async(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    const u64 to = in.flag2 ? w.in<u32>(in.a)[i] : w.in<u64>(in.a)[i];
    const u64 target = (to + static_cast<u64>(in.immediate)) & 0xFFFFFFFFu;
    const u32 have = in.c == kNoRef ? in.bytes : std::min<u32>(w.in<u32>(in.c)[i], in.bytes);
    const bool ignore = in.x != kNoRef && (w.predicate(in.x) >> i & 1) != 0;
    std::byte* out = w.resolve_generic(kSharedWindow + target, i, in.bytes, true);
    const u64 from = w.in<u64>(in.b)[i] + in.target;
    if (w.faulted()) return;
    if ((target | from) % in.bytes != 0) return w.fault(Fault::kMisalignedAddress);
    std::memset(out, 0, in.bytes);
    if (have == 0 || ignore) return;
    const std::byte* source = w.resolve_generic(from, i, have, false);
    if (source != nullptr) std::memcpy(out, source, have);
  });
}

void fence(Warp&, const Instruction&, Mask) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/// Modifiers that only say how to cache, in which scope to be seen, or nothing here.
bool take_hints(Decoder& d) {
  bool ordered = false;
  while (!d.left().empty()) {
    const std::string_view m = d.left();
    if (m == "acquire" || m == "release" || m == "acq_rel") ordered = true;
    const bool hint = m == "weak" || m == "volatile" || m == "relaxed" || m == "acquire" || m == "release" || m == "acq_rel" ||
                      m == "mmio" || m == "sys" || m == "gpu" || m == "cta" || m == "cluster" || m == "ca" || m == "cg" || m == "cs" ||
                      m == "lu" || m == "cv" || m == "wb" || m == "wt" || m == "nc" || m == "level::eviction_priority" ||
                      m.starts_with("L1::") || m.starts_with("L2::") || m == "unified";
    if (!hint) break;
    d.take(m);
  }
  return ordered;
}

unsigned vector_count(Decoder& d) {
  switch (d.take_any({"v2", "v4", "v8"})) {
    case 0: return 2;
    case 1: return 4;
    case 2: return 8;
    default: return 1;
  }
}

void decode_vector(Decoder& d, Instruction& in, const SyntaxOperand& data, bool load) {
  const auto check = [&](const SyntaxOperand& item) {
    const int width = d.width_of(item);
    if (item.kind == OperandKind::kSink && load) return;
    if (width == 0 || (width > 0 && static_cast<unsigned>(width) < in.bytes)) d.mismatch();
    if (width > 0) in.width = static_cast<std::uint8_t>(width);
  };
  const auto type = [&] { return in.width == 2 ? Type::kB16 : in.width == 4 ? Type::kB32 : Type::kB64; };
  in.width = static_cast<std::uint8_t>(register_bytes(in.bytes));
  if (in.count == 1) {
    const SyntaxOperand& one = data.kind == OperandKind::kVector && data.items.size() == 1 ? data.items[0] : data;
    check(one);
    if (load) in.d = d.destination(one, type());
    else in.b = d.source(one, type());
    return;
  }
  if (data.kind != OperandKind::kVector || data.items.size() != in.count) d.mismatch();
  for (const SyntaxOperand& item : data.items) check(item);
  std::vector<Ref> refs;
  for (const SyntaxOperand& item : data.items) {
    if (load) refs.push_back(item.kind == OperandKind::kSink ? kNoRef : d.destination(item, type()));
    else refs.push_back(d.source(item, type()));
  }
  in.extra = static_cast<u32>(d.function().vectors.size());
  d.function().vectors.push_back(std::move(refs));
}

void load_or_store(Decoder& d, bool is_load) {
  Instruction in;
  in.costly = d.take("volatile") || d.take("relaxed");
  in.space = d.take_space(Space::kGeneric);
  const unsigned count = vector_count(d);
  const Type type = d.need_type();
  in.mode = take_hints(d);
  in.costly = in.costly || in.mode != 0;
  d.finish_modifiers();
  d.need_operands(2, 3);  // a cache policy may follow
  if (type == Type::kPred) d.mismatch();
  if (!is_load && in.space == Space::kConst) d.mismatch();
  in.bytes = static_cast<std::uint8_t>(bytes_of(type));
  in.count = static_cast<std::uint8_t>(count);
  if (type == Type::kB128) return load_or_store_wide(d, in, is_load);
  in.is_signed = is_signed(type);
  d.address(in, d.operand(is_load ? 1 : 0));
  decode_vector(d, in, d.operand(is_load ? 0 : 1), is_load);
  if (in.space == Space::kKernelParameter) {
    if (!is_load) d.mismatch();
    in.run = load_kernel_parameter;
  } else if (in.space == Space::kParameter) {
    in.run = is_load ? load_parameter : store_parameter;
  } else {
    in.run = is_load ? load : store;
  }
  d.emit(in);
}

void nothing(Decoder& d) { d.drop_modifiers(); }

void copy_async_opcode(Decoder& d) {
  const bool reduces = d.take("reduce");
  if (!d.take("async")) throw Unsupported{};
  if (d.take("bulk")) return bulk_copy_opcode(d, reduces);
  if (reduces) throw Unsupported{};
  if (d.take("commit_group") || d.take("wait_group") || d.take("wait_all")) return nothing(d);
  if (d.take("mbarrier")) return copies_arrive_opcode(d);
  d.take_any({"ca", "cg"});
  if (d.take_any({"shared", "shared::cta"}) < 0 || !d.take("global")) throw Unsupported{};
  d.drop_modifiers();
  d.need_operands(3, 5);
  Instruction in, source;
  in.run = copy_async;
  in.space = Space::kShared;
  source.space = Space::kGlobal;
  d.address(in, d.operand(0));
  d.address(source, d.operand(1));
  in.b = source.a;
  in.target = static_cast<u32>(source.immediate);
  const u64 bytes = d.immediate(d.operand(2));
  if (bytes != 4 && bytes != 8 && bytes != 16) d.mismatch();
  in.bytes = static_cast<std::uint8_t>(bytes);
  if (d.operand_count() > 3) {
    if (d.is_predicate(d.operand(3))) in.x = d.predicate(d.operand(3));
    else if (d.width_of(d.operand(3)) != 8) in.c = d.source(d.operand(3), Type::kU32);
  }
  d.emit(in);
}

}  // namespace

void add_memory_opcodes(Decoder::Table& t) {
  t["ld"] = [](Decoder& d) { load_or_store(d, true); };
  t["ldu"] = [](Decoder& d) { load_or_store(d, true); };
  t["st"] = [](Decoder& d) { load_or_store(d, false); };
  t["prefetch"] = nothing;
  t["prefetchu"] = nothing;
  t["discard"] = nothing;
  t["applypriority"] = nothing;
  t["createpolicy"] = nothing;
  t["cp"] = copy_async_opcode;
  t["membar"] = t["fence"] = [](Decoder& d) {
    d.drop_modifiers();
    Instruction in;
    in.run = fence;
    d.emit(in);
  };
}

}  // namespace avec::cpu::ptx
