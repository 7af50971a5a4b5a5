// tex, tld4, txq, suld, sust, sured, suq ("PTX ISA", 9.7.10 and 9.7.11), of objects: the operand is
// a 64-bit value. References (.texref, .surfref) are not supported.
#include <algorithm>

#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/lanes.h"
#include "devices/cpu/ptx/texture.h"

namespace avec::cpu::ptx {
namespace {

enum class Detail : std::uint8_t { kNone, kLevel, kGradient, kGather };
enum class Outside : std::uint8_t { kTrap, kClamp, kZero };
enum class Query : std::uint8_t { kWidth, kHeight, kDepth, kLevels, kSamples, kNormalized };

// Where an instruction's vector (Function::vectors) has what.
constexpr unsigned kTexels = 0, kLayer = 4, kCoordinates = 5, kDetail = 8, kTextureRefs = 14;

/// The objects of an instruction's lanes, mostly one.
template <class Object>
class Lookup {
 public:
  Lookup(Warp& w, std::shared_ptr<const Object> (ObjectSpace::*find)(std::uint64_t) const) : w_(w), find_(find) {}
  /// Null and a fault when there is no such object.
  const Object* operator()(std::uint64_t value) {
    if (object_ != nullptr && value == value_) return object_.get();
    const ObjectSpace* objects = w_.launch().launch().objects;
    object_ = objects != nullptr ? (objects->*find_)(value) : nullptr;
    value_ = value;
    if (object_ == nullptr) w_.fault(Fault::kIllegalAddress);
    return object_.get();
  }

 private:
  Warp& w_;
  std::shared_ptr<const Object> (ObjectSpace::*find_)(std::uint64_t) const;
  std::shared_ptr<const Object> object_;
  std::uint64_t value_ = 0;
};

Coordinates coordinates_of(const Warp& w, const std::vector<Ref>& refs, bool integer, unsigned lane) {
  Coordinates at;
  at.integer = integer;
  if (refs[kLayer] != kNoRef) at.layer = w.in<u32>(refs[kLayer])[lane];
  for (unsigned d = 0; d < 3; ++d) {
    const Ref ref = refs[kCoordinates + d];
    if (ref == kNoRef) continue;
    if (integer && d == 0) at.x = w.in<s32>(ref)[lane];
    else at.at[d] = integer ? static_cast<float>(w.in<s32>(ref)[lane]) : w.in<float>(ref)[lane];
  }
  return at;
}

float detail_of(const Warp& w, const Instruction& in, const std::vector<Ref>& refs, const Texture& texture,
                unsigned lane) {
  switch (static_cast<Detail>(in.mode)) {
    case Detail::kLevel: return w.in<float>(refs[kDetail])[lane];
    case Detail::kGradient: {
      std::array<float, 3> dx{}, dy{};
      for (unsigned d = 0; d < 3; ++d) {
        if (refs[kDetail + d] != kNoRef) dx[d] = w.in<float>(refs[kDetail + d])[lane];
        if (refs[kDetail + 3 + d] != kNoRef) dy[d] = w.in<float>(refs[kDetail + 3 + d])[lane];
      }
      return level_of_detail(texture, dimensions_of(static_cast<Geometry>(in.code)), dx, dy);
    }
    default: return 0;
  }
}

void texture(Warp& w, const Instruction& in, Mask mask) {
  const std::vector<Ref>& refs = w.frame().function->vectors[in.extra];
  const auto geometry = static_cast<Geometry>(in.code);
  Lookup<Texture> lookup(w, &ObjectSpace::texture);
  for_lanes(mask, [&](unsigned lane) {
    if (w.faulted()) return;
    const Texture* found = lookup(w.in<u64>(in.a)[lane]);
    if (found == nullptr) return;
    const Coordinates at = coordinates_of(w, refs, in.flag, lane);
    // Coordinates by whole numbers exist for one dimension; in more they are those of the elements' middles.
    Coordinates middle = at;
    if (in.flag && dimensions_of(geometry) > 1) {
      middle.integer = false;
      middle.at[0] = static_cast<float>(at.x);
    }
    const Texel texel = static_cast<Detail>(in.mode) == Detail::kGather
                            ? gather(*found, geometry, middle, static_cast<unsigned>(in.immediate))
                            : sample(*found, geometry, middle, detail_of(w, in, refs, *found, lane));
    for (unsigned c = 0; c < 4; ++c)
      if (refs[kTexels + c] != kNoRef) w.out<u32>(refs[kTexels + c])[lane] = texel[c];
  });
  w.set_predicate(in.e, mask, mask);  // no part of an array is without memory
}

u32 queried(const Image& image, Query what, std::size_t levels, bool normalized) {
  switch (what) {
    case Query::kWidth: return static_cast<u32>(image.width);
    case Query::kHeight: return static_cast<u32>(image.height);
    case Query::kDepth: return static_cast<u32>(image.depth);
    case Query::kLevels: return static_cast<u32>(levels);
    case Query::kSamples: return 1;
    default: return normalized ? 1 : 0;
  }
}

void query_texture(Warp& w, const Instruction& in, Mask mask) {
  Lookup<Texture> lookup(w, &ObjectSpace::texture);
  for_lanes(mask, [&](unsigned lane) {
    const Texture* found = w.faulted() ? nullptr : lookup(w.in<u64>(in.a)[lane]);
    if (found == nullptr) return;
    const u32 level = in.b == kNoRef ? 0 : w.in<u32>(in.b)[lane];
    const Image& image = found->levels[std::min<std::size_t>(level, found->levels.size() - 1)];
    w.out<u32>(in.d)[lane] = queried(image, static_cast<Query>(in.code), found->levels.size(), found->normalized);
  });
}

void query_surface(Warp& w, const Instruction& in, Mask mask) {
  Lookup<Surface> lookup(w, &ObjectSpace::surface);
  for_lanes(mask, [&](unsigned lane) {
    const Surface* found = w.faulted() ? nullptr : lookup(w.in<u64>(in.a)[lane]);
    if (found != nullptr) w.out<u32>(in.d)[lane] = queried(found->image, static_cast<Query>(in.code), 1, false);
  });
}

// ---- surfaces -------------------------------------------------------------------------------

/// The bytes that a lane names; null: outside, and to be left alone.
std::byte* surface_bytes(Warp& w, const Surface& surface, const Instruction& in, const std::vector<Ref>& refs,
                         unsigned lane) {
  const auto geometry = static_cast<Geometry>(in.code);
  const unsigned bytes = in.bytes * in.count;
  const Image& image = surface.image;
  std::int64_t at[3] = {0, 0, 0};
  for (unsigned d = 0; d < dimensions_of(geometry); ++d) at[d] = w.in<s32>(refs[kCoordinates + d])[lane];
  if (refs[kLayer] != kNoRef) at[2] = static_cast<std::int64_t>(w.in<u32>(refs[kLayer])[lane]);
  const std::int64_t most[3] = {static_cast<std::int64_t>(image.width * surface.element_bytes) - bytes,
                                static_cast<std::int64_t>(image.height) - 1, static_cast<std::int64_t>(image.depth) - 1};
  if (most[0] < 0) return nullptr;
  for (unsigned d = 0; d < 3; ++d) {
    if (at[d] >= 0 && at[d] <= most[d]) continue;
    switch (static_cast<Outside>(in.mode)) {
      case Outside::kTrap: w.fault(Fault::kTrap); return nullptr;
      case Outside::kZero: return nullptr;
      case Outside::kClamp: at[d] = std::clamp<std::int64_t>(at[d], 0, most[d]);
    }
  }
  if (at[0] % bytes != 0) {
    w.fault(Fault::kMisalignedAddress);
    return nullptr;
  }
  return image.data + static_cast<u64>(at[2]) * image.slice + static_cast<u64>(at[1]) * image.pitch +
         static_cast<u64>(at[0]);
}

void put(Warp& w, Ref ref, unsigned width, unsigned lane, u64 value) {
  if (width == 2) w.out<u16>(ref)[lane] = static_cast<u16>(value);
  else if (width == 4) w.out<u32>(ref)[lane] = static_cast<u32>(value);
  else w.out<u64>(ref)[lane] = value;
}

u64 get(const Warp& w, Ref ref, unsigned width, unsigned lane) {
  return width == 2 ? w.in<u16>(ref)[lane] : width == 4 ? w.in<u32>(ref)[lane] : w.in<u64>(ref)[lane];
}

/// Calls use(lane, bytes or null) for each lane.
template <class Use>
void each_surface(Warp& w, const Instruction& in, Mask mask, Use&& use) {
  const std::vector<Ref>& refs = w.frame().function->vectors[in.extra];
  Lookup<Surface> lookup(w, &ObjectSpace::surface);
  for_lanes(mask, [&](unsigned lane) {
    const Surface* found = w.faulted() ? nullptr : lookup(w.in<u64>(in.a)[lane]);
    if (found == nullptr) return;
    std::byte* bytes = surface_bytes(w, *found, in, refs, lane);
    if (!w.faulted()) use(lane, bytes, refs);
  });
}

void load_surface(Warp& w, const Instruction& in, Mask mask) {
  each_surface(w, in, mask, [&](unsigned lane, const std::byte* bytes, const std::vector<Ref>& refs) {
    for (unsigned k = 0; k < in.count; ++k) {
      u64 value = 0;
      if (bytes != nullptr) std::memcpy(&value, bytes + k * in.bytes, in.bytes);
      if (refs[kTexels + k] != kNoRef) put(w, refs[kTexels + k], in.width, lane, value);
    }
  });
}

void store_surface(Warp& w, const Instruction& in, Mask mask) {
  each_surface(w, in, mask, [&](unsigned lane, std::byte* bytes, const std::vector<Ref>& refs) {
    if (bytes == nullptr) return;
    for (unsigned k = 0; k < in.count; ++k) {
      const u64 value = get(w, refs[kTexels + k], in.width, lane);
      std::memcpy(bytes + k * in.bytes, &value, in.bytes);
    }
  });
}

enum class Reduction : std::uint8_t { kAdd, kMin, kMax, kAnd, kOr };

template <class T>
T reduced(Reduction operation, T a, T b) {
  switch (operation) {
    case Reduction::kAdd: return static_cast<T>(static_cast<u64>(a) + static_cast<u64>(b));
    case Reduction::kMin: return std::min(a, b);
    case Reduction::kMax: return std::max(a, b);
    case Reduction::kAnd: return a & b;
    default: return a | b;
  }
}

template <class T>
void reduce_at(std::byte* bytes, Reduction operation, T value) {
  T* cell = reinterpret_cast<T*>(bytes);
  T before = __atomic_load_n(cell, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(cell, &before, reduced(operation, before, value), false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
  }
}

void reduce_surface(Warp& w, const Instruction& in, Mask mask) {
  const auto operation = static_cast<Reduction>(in.immediate);
  each_surface(w, in, mask, [&](unsigned lane, std::byte* bytes, const std::vector<Ref>& refs) {
    if (bytes == nullptr) return;
    const u64 value = get(w, refs[kTexels], in.width, lane);
    if (in.bytes == 8) reduce_at<u64>(bytes, operation, value);
    else if (in.is_signed) reduce_at<s32>(bytes, operation, static_cast<s32>(value));
    else reduce_at<u32>(bytes, operation, static_cast<u32>(value));
  });
}

// ---- decoding -------------------------------------------------------------------------------

Geometry take_geometry(Decoder& d) {
  const int which = d.take_any({"1d", "2d", "3d", "a1d", "a2d", "cube", "acube"});
  if (which < 0) throw Unsupported{};
  return static_cast<Geometry>(which);
}

const SyntaxOperand& need_vector(Decoder& d, const SyntaxOperand& operand, std::size_t least, std::size_t most) {
  if (operand.kind != OperandKind::kVector || operand.items.size() < least || operand.items.size() > most) d.mismatch();
  return operand;
}

/// [object, {coordinates}]: the object into in.a, the rest into refs.
void decode_place(Decoder& d, Instruction& in, const SyntaxOperand& place, Type type, std::vector<Ref>& refs) {
  if (place.kind != OperandKind::kAddress || place.items.size() < 2 || place.offset != 0) d.mismatch();
  if (place.items.size() > 2 || place.items[0].kind == OperandKind::kSymbol) throw Unsupported{};  // samplers, references
  in.a = d.source(place.items[0], Type::kB64);
  const auto geometry = static_cast<Geometry>(in.code);
  const bool layer = layered(geometry);
  const unsigned count = dimensions_of(geometry) + (layer ? 1 : 0);
  const auto& items = place.items[1].items;
  if (place.items[1].kind != OperandKind::kVector) {
    if (count != 1) d.mismatch();
    refs[kCoordinates] = d.source(place.items[1], type);
    return;
  }
  if (items.size() < count || items.size() > 4) d.mismatch();
  if (layer) refs[kLayer] = d.source(items[0], Type::kU32);
  for (unsigned i = 0; i < dimensions_of(geometry); ++i)
    refs[kCoordinates + i] = d.source(items[i + (layer ? 1 : 0)], type);
}

void keep(Decoder& d, Instruction& in, std::vector<Ref> refs) {
  in.extra = static_cast<u32>(d.function().vectors.size());
  d.function().vectors.push_back(std::move(refs));
  d.emit(in);
}

/// {d0, d1, d2, d3}, perhaps |p.
void decode_texels(Decoder& d, Instruction& in, std::vector<Ref>& refs) {
  const SyntaxOperand* result = &d.operand(0);
  if (result->kind == OperandKind::kPair) {
    in.e = d.predicate_destination(result->items[1]);
    result = &result->items[0];
  }
  need_vector(d, *result, 4, 4);
  for (unsigned c = 0; c < 4; ++c)
    refs[kTexels + c] = result->items[c].kind == OperandKind::kSink ? kNoRef : d.destination(result->items[c], Type::kB32);
}

void decode_gradient(Decoder& d, const SyntaxOperand& operand, unsigned dimensions, unsigned first,
                     std::vector<Ref>& refs) {
  if (operand.kind != OperandKind::kVector) {
    if (dimensions != 1) d.mismatch();
    refs[first] = d.source(operand, Type::kF32);
    return;
  }
  need_vector(d, operand, dimensions, 4);
  for (unsigned i = 0; i < dimensions; ++i) refs[first + i] = d.source(operand.items[i], Type::kF32);
}

void texture_opcode(Decoder& d) {
  Instruction in;
  in.run = texture;
  d.take("base");  // the most detailed level
  const int detail = d.take_any({"level", "grad"});
  in.mode = static_cast<std::uint8_t>(detail < 0 ? Detail::kNone : detail == 0 ? Detail::kLevel : Detail::kGradient);
  in.code = static_cast<std::uint8_t>(take_geometry(d));
  if (!d.take("v4")) throw Unsupported{};  // .v2.f16x2
  const Type result = d.need_type(), coordinate = d.need_type();
  d.finish_modifiers();
  if (bytes_of(result) != 4 || is_packed(result)) throw Unsupported{};
  in.flag = coordinate == Type::kS32;
  std::vector<Ref> refs(kTextureRefs, kNoRef);
  decode_texels(d, in, refs);
  decode_place(d, in, d.operand(1), coordinate, refs);
  const std::size_t operands = detail < 0 ? 2 : detail == 0 ? 3 : 4;
  if (d.operand_count() > operands) throw Unsupported{};  // offsets, comparisons
  d.need_operands(operands, operands);
  const unsigned dimensions = dimensions_of(static_cast<Geometry>(in.code));
  if (detail == 0) refs[kDetail] = d.source(d.operand(2), Type::kF32);
  if (detail == 1) {
    decode_gradient(d, d.operand(2), dimensions, kDetail, refs);
    decode_gradient(d, d.operand(3), dimensions, kDetail + 3, refs);
  }
  keep(d, in, std::move(refs));
}

void gather_opcode(Decoder& d) {
  Instruction in;
  in.run = texture;
  in.mode = static_cast<std::uint8_t>(Detail::kGather);
  const int channel = d.take_any({"r", "g", "b", "a"});
  if (channel < 0) d.mismatch();
  in.immediate = channel;
  const Geometry geometry = take_geometry(d);
  if (geometry != Geometry::k2d && geometry != Geometry::k2dArray) throw Unsupported{};
  in.code = static_cast<std::uint8_t>(geometry);
  if (!d.take("v4")) d.mismatch();
  d.need_type();
  const Type coordinate = d.need_type();
  d.finish_modifiers();
  if (d.operand_count() > 2 || coordinate != Type::kF32) throw Unsupported{};
  std::vector<Ref> refs(kTextureRefs, kNoRef);
  decode_texels(d, in, refs);
  decode_place(d, in, d.operand(1), coordinate, refs);
  keep(d, in, std::move(refs));
}

void query(Decoder& d, Handler run) {
  Instruction in;
  in.run = run;
  const bool level = d.take("level");
  const int what = d.take_any({"width", "height", "depth", "num_mipmap_levels", "num_samples", "normalized_coords"});
  const bool layers = what < 0 && d.take("array_size");
  if (what < 0 && !layers) throw Unsupported{};
  in.code = static_cast<std::uint8_t>(layers ? static_cast<int>(Query::kDepth) : what);
  d.drop_modifiers();
  d.need_operands(level ? 3 : 2, level ? 3 : 2);
  const SyntaxOperand& place = d.operand(1);
  if (place.kind != OperandKind::kAddress || place.items.size() != 1) d.mismatch();
  if (place.items[0].kind == OperandKind::kSymbol) throw Unsupported{};
  in.d = d.destination(d.operand(0), Type::kB32);
  in.a = d.source(place.items[0], Type::kB64);
  if (level) in.b = d.source(d.operand(2), Type::kU32);
  d.emit(in);
}

Outside take_outside(Decoder& d) {
  const int which = d.take_any({"trap", "clamp", "zero"});
  return which < 0 ? Outside::kTrap : static_cast<Outside>(which);
}

/// suld.b and sust.b: the data is operand 0 of a load, 1 of a store.
void surface_opcode(Decoder& d, bool is_load) {
  Instruction in;
  in.run = is_load ? load_surface : store_surface;
  if (!d.take("b")) throw Unsupported{};  // .p: formatted
  in.code = static_cast<std::uint8_t>(take_geometry(d));
  d.take_any({"ca", "cg", "cs", "cv", "wb", "wt"});
  const int vector = d.take_any({"v2", "v4"});
  in.count = vector < 0 ? 1 : vector == 0 ? 2 : 4;
  const Type type = d.need_type();
  in.mode = static_cast<std::uint8_t>(take_outside(d));
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.bytes = static_cast<std::uint8_t>(bytes_of(type));
  in.width = static_cast<std::uint8_t>(register_bytes(in.bytes));
  std::vector<Ref> refs(kTextureRefs, kNoRef);
  decode_place(d, in, d.operand(is_load ? 1 : 0), Type::kS32, refs);
  const SyntaxOperand& data = d.operand(is_load ? 0 : 1);
  const bool braces = data.kind == OperandKind::kVector;
  if ((braces ? data.items.size() : 1) != in.count) d.mismatch();
  for (unsigned k = 0; k < in.count; ++k) {
    const SyntaxOperand& item = braces ? data.items[k] : data;
    refs[kTexels + k] = is_load ? d.destination(item, type) : d.source(item, type);
  }
  keep(d, in, std::move(refs));
}

void reduce_opcode(Decoder& d) {
  Instruction in;
  in.run = reduce_surface;
  if (!d.take("b")) throw Unsupported{};
  in.code = static_cast<std::uint8_t>(take_geometry(d));
  in.immediate = d.take_any({"add", "min", "max", "and", "or"});
  if (in.immediate < 0) d.mismatch();
  const Type type = d.need_type();
  in.mode = static_cast<std::uint8_t>(take_outside(d));
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.bytes = static_cast<std::uint8_t>(bytes_of(type));
  if (in.bytes != 4 && in.bytes != 8) d.mismatch();
  in.width = in.bytes;
  in.is_signed = is_signed(type);
  std::vector<Ref> refs(kTextureRefs, kNoRef);
  decode_place(d, in, d.operand(0), Type::kS32, refs);
  const SyntaxOperand& data = d.operand(1);
  refs[kTexels] = d.source(data.kind == OperandKind::kVector && data.items.size() == 1 ? data.items[0] : data, type);
  keep(d, in, std::move(refs));
}

}  // namespace

void add_texture_opcodes(Decoder::Table& t) {
  t["tex"] = texture_opcode;
  t["tld4"] = gather_opcode;
  t["txq"] = [](Decoder& d) { query(d, query_texture); };
  t["suq"] = [](Decoder& d) { query(d, query_surface); };
  t["suld"] = [](Decoder& d) { surface_opcode(d, true); };
  t["sust"] = [](Decoder& d) { surface_opcode(d, false); };
  t["sured"] = reduce_opcode;
}

}  // namespace avec::cpu::ptx
