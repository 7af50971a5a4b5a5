// Matrices of a warp: mma, wmma, ldmatrix, stmatrix, movmatrix ("PTX ISA", 9.7.14). A reference:
// each lane's registers are gathered into whole matrices, multiplied, and spread again. Sums of
// small floats are taken in f64 and rounded once.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "devices/cpu/ptx/half.h"
#include "devices/cpu/ptx/lanes.h"
#include "devices/cpu/ptx/tiny_float.h"

namespace avec::cpu::ptx {
namespace {

struct NamedElement {
  std::string_view name;
  Element element;
  unsigned bits;
};
constexpr NamedElement kElements[] = {
    {"f16", Element::kF16, 16}, {"bf16", Element::kBf16, 16}, {"tf32", Element::kTf32, 32}, {"f32", Element::kF32, 32},
    {"f64", Element::kF64, 64}, {"s32", Element::kS32, 32}, {"s8", Element::kS8, 8}, {"u8", Element::kU8, 8},
    {"s4", Element::kS4, 4}, {"u4", Element::kU4, 4}, {"b1", Element::kB1, 1}, {"e4m3", Element::kE4m3, 8},
    {"e5m2", Element::kE5m2, 8}};

unsigned bits_of(Element element) {
  return std::find_if(std::begin(kElements), std::end(kElements), [&](const auto& e) { return e.element == element; })->bits;
}

/// Of one element in a register: those of 64 bits have one of their own.
unsigned register_width(Element element) { return element == Element::kF64 ? 8 : 4; }
unsigned per_register(Element element) { return element == Element::kF64 ? 1 : 32 / bits_of(element); }

double widen(Element element, u64 bits) {
  switch (element) {
    case Element::kF16: return Half::widen(static_cast<u16>(bits));
    case Element::kBf16: return Bfloat::widen(static_cast<u16>(bits));
    case Element::kTf32: return std::bit_cast<float>(static_cast<u32>(bits) & ~u32{0x1FFF});
    case Element::kF32: return std::bit_cast<float>(static_cast<u32>(bits));
    case Element::kF64: return std::bit_cast<double>(bits);
    case Element::kE4m3: return E4m3::widen(static_cast<std::uint8_t>(bits));
    default: return E5m2::widen(static_cast<std::uint8_t>(bits));
  }
}

s64 integer_of(Element element, u64 bits) {
  switch (element) {
    case Element::kS8: return static_cast<std::int8_t>(bits);
    case Element::kS4: return static_cast<s64>(bits << 60) >> 60;
    case Element::kS32: return static_cast<s32>(bits);
    default: return static_cast<s64>(bits);
  }
}

struct Place {
  unsigned row = 0, column = 0;
};

/// Where element j of register r of a lane lies ("PTX ISA", the figures of mma's fragments). For
/// wmma that is nobody's business; f16 has each element of the smaller matrices more than once.
Place place(const MatrixPlan& plan, Role role, Element element, unsigned rows, unsigned columns, unsigned lane, unsigned r,
            unsigned j) {
  const unsigned group = lane >> 2, thread = lane & 3, per = per_register(element);
  if (plan.opaque) {
    const unsigned own = rows * columns / kLanes;
    if (role == Role::kC && rows == 16 && columns == 16) {
      const unsigned i = r * per + j;
      return {group + 8 * (i >> 1 & 1), thread * 2 + (i & 1) + 8 * (i >> 2)};
    }
    const unsigned index = lane * own + (r * per + j) % own;
    return {index / columns, index % columns};
  }
  switch (role) {
    case Role::kA: return {group + 8 * (rows == 16 ? r & 1 : 0), thread * per + j + (rows == 16 ? r >> 1 : r) * 4 * per};
    case Role::kB: return {thread * per + j + r * 4 * per, group};
    default: {
      const unsigned i = r * per + j;
      return {group + 8 * (i >> 1), thread * 2 + (i & 1)};
    }
  }
}

u64 read_register(const Warp& w, Ref ref, unsigned width, unsigned lane) {
  return width == 8 ? w.in<u64>(ref)[lane] : w.in<u32>(ref)[lane];
}

u64 element_bits(u64 bits, Element element, unsigned j) {
  const unsigned size = bits_of(element);
  return size == 64 ? bits : bits >> (size * j) & ((u64{1} << size) - 1);
}

using Grid = std::vector<u64>;

/// The whole matrix that the lanes' registers make.
Grid gather(const Warp& w, const MatrixPlan& plan, Role role, Element element, unsigned rows, unsigned columns,
            const std::vector<Ref>& refs) {
  Grid grid(std::size_t{rows} * columns);
  for (unsigned r = 0; r < refs.size(); ++r) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const u64 bits = read_register(w, refs[r], register_width(element), lane);
      for (unsigned j = 0; j < per_register(element); ++j) {
        const Place at = place(plan, role, element, rows, columns, lane, r, j);
        grid[at.row * columns + at.column] = element_bits(bits, element, j);
      }
    }
  }
  return grid;
}

void scatter(Warp& w, Mask mask, const MatrixPlan& plan, Role role, Element element, unsigned rows, unsigned columns,
             const std::vector<Ref>& refs, const Grid& grid) {
  for (unsigned r = 0; r < refs.size(); ++r) {
    for_lanes(mask, [&](unsigned lane) {
      u64 bits = 0;
      for (unsigned j = 0; j < per_register(element); ++j) {
        const Place at = place(plan, role, element, rows, columns, lane, r, j);
        bits |= grid[at.row * columns + at.column] << (bits_of(element) % 64 * j);
      }
      if (register_width(element) == 8) w.out<u64>(refs[r])[lane] = bits;
      else w.out<u32>(refs[r])[lane] = static_cast<u32>(bits);
    });
  }
}

u64 narrow_sum(const MatrixPlan& plan, double sum) {
  if (plan.d == Element::kF16) return sum != sum ? Half::kNan : Half::round(sum);
  const auto result = static_cast<float>(sum);
  return result != result ? u64{0x7FFFFFFF} : std::bit_cast<u32>(result);
}

u64 dot_floats(const MatrixPlan& plan, const Grid& a, const Grid& b, u64 c, unsigned row, unsigned column) {
  double sum = widen(plan.c, c);
  for (unsigned k = 0; k < plan.k; ++k) {
    const double x = widen(plan.a, a[row * plan.k + k]), y = widen(plan.b, b[k * plan.n + column]);
    sum = plan.d == Element::kF64 ? std::fma(x, y, sum) : sum + x * y;
  }
  return plan.d == Element::kF64 ? std::bit_cast<u64>(sum) : narrow_sum(plan, sum);
}

u64 dot_integers(const MatrixPlan& plan, const Grid& a, const Grid& b, u64 c, unsigned row, unsigned column) {
  s64 sum = integer_of(plan.c, c);
  for (unsigned k = 0; k < plan.k; ++k) {
    const u64 x = a[row * plan.k + k], y = b[k * plan.n + column];
    if (plan.a == Element::kB1) sum += static_cast<s64>(plan.exclusive ? x ^ y : x & y);
    else sum += integer_of(plan.a, x) * integer_of(plan.b, y);
  }
  if (plan.saturate) sum = std::clamp<s64>(sum, std::numeric_limits<s32>::min(), std::numeric_limits<s32>::max());
  return static_cast<u32>(sum);
}

void multiply(Warp& w, const Instruction& in, Mask mask) {
  const Function& function = *w.frame().function;
  const MatrixPlan& plan = function.matrices[in.extra];
  const auto& refs = plan.refs;
  const Grid a = gather(w, plan, Role::kA, plan.a, plan.m, plan.k, refs[1]);
  const Grid b = gather(w, plan, Role::kB, plan.b, plan.k, plan.n, refs[2]);
  Grid c = gather(w, plan, Role::kC, plan.c, plan.m, plan.n, refs[3]);
  const bool integers = plan.d == Element::kS32;
  for (unsigned row = 0; row < plan.m; ++row) {
    for (unsigned column = 0; column < plan.n; ++column) {
      u64& at = c[row * plan.n + column];
      at = integers ? dot_integers(plan, a, b, at, row, column) : dot_floats(plan, a, b, at, row, column);
    }
  }
  scatter(w, mask, plan, Role::kC, plan.d, plan.m, plan.n, refs[0], c);
}

/// The matrix of a wmma.load or wmma.store.
struct Part {
  unsigned rows, columns;
};
Part part_of(const MatrixPlan& plan) {
  return plan.role == Role::kA ? Part{plan.m, plan.k} : plan.role == Role::kB ? Part{plan.k, plan.n} : Part{plan.m, plan.n};
}

/// Calls f(bit offset in memory, element of the grid) for each; false when the stride is senseless.
template <class F>
void each_element(const MatrixPlan& plan, u64 stride, F&& f) {
  const Part part = part_of(plan);
  for (unsigned row = 0; row < part.rows; ++row) {
    for (unsigned column = 0; column < part.columns; ++column) {
      const u64 index = plan.by_column ? column * stride + row : row * stride + column;
      f(index * bits_of(plan.a), row * part.columns + column);
    }
  }
}

u64 address_of(const Warp& w, const Instruction& in, unsigned lane) {
  const u64 base = in.flag2 ? w.in<u32>(in.a)[lane] : w.in<u64>(in.a)[lane];
  const u64 address = base + static_cast<u64>(in.immediate);
  if (in.space != Space::kShared || in_window(address, kSharedWindow)) return address;
  return kSharedWindow + (address & 0xFFFFFFFFu);
}

u64 stride_of(const Warp& w, const Instruction& in, const MatrixPlan& plan, unsigned lane) {
  if (in.b != kNoRef) return w.in<u32>(in.b)[lane];
  const Part part = part_of(plan);
  return plan.by_column ? part.rows : part.columns;
}

void load_matrix(Warp& w, const Instruction& in, Mask mask) {
  const MatrixPlan& plan = w.frame().function->matrices[in.extra];
  const auto first = static_cast<unsigned>(std::countr_zero(mask));
  const u64 base = address_of(w, in, first);
  const Part part = part_of(plan);
  const unsigned size = bits_of(plan.a), bytes = std::max(1u, size / 8);
  Grid grid(std::size_t{part.rows} * part.columns);
  each_element(plan, stride_of(w, in, plan, first), [&](u64 bit, unsigned i) {
    if (w.faulted()) return;
    const std::byte* from = w.resolve_generic(base + bit / 8, first, bytes, false);
    if (from == nullptr) return;
    u64 bits = 0;
    std::memcpy(&bits, from, bytes);
    grid[i] = size < 8 ? bits >> (bit % 8) & ((u64{1} << size) - 1) : bits;
  });
  if (!w.faulted()) scatter(w, mask, plan, plan.role, plan.a, part.rows, part.columns, plan.refs[0], grid);
}

void store_matrix(Warp& w, const Instruction& in, Mask mask) {
  const MatrixPlan& plan = w.frame().function->matrices[in.extra];
  const auto first = static_cast<unsigned>(std::countr_zero(mask));
  const u64 base = address_of(w, in, first);
  const Part part = part_of(plan);
  const Grid grid = gather(w, plan, plan.role, plan.a, part.rows, part.columns, plan.refs[0]);
  each_element(plan, stride_of(w, in, plan, first), [&](u64 bit, unsigned i) {
    if (w.faulted()) return;
    const unsigned bytes = bits_of(plan.a) / 8;
    std::byte* to = w.resolve_generic(base + bit / 8, first, bytes, true);
    if (to != nullptr) std::memcpy(to, &grid[i], bytes);
  });
}

/// ldmatrix and stmatrix: lane 8*k+i gives the address of row i of matrix k. code: transposed.
template <bool kLoad>
void move_rows(Warp& w, const Instruction& in, Mask mask) {
  const std::vector<Ref>& refs = w.frame().function->vectors[in.extra];
  for (unsigned k = 0; k < refs.size(); ++k) {
    for (unsigned row = 0; row < 8; ++row) {
      const u64 address = address_of(w, in, 8 * k + row);
      if (address % 16 != 0) return w.fault(Fault::kMisalignedAddress);
      std::byte* memory = w.resolve_generic(address, 8 * k + row, 16, !kLoad);
      if (memory == nullptr) return;
      for (unsigned column = 0; column < 8; ++column) {
        const unsigned y = in.code ? column : row, x = in.code ? row : column;
        const unsigned lane = y * 4 + x / 2;
        if ((mask >> lane & 1) == 0) continue;
        u16* half = w.out<u16>(refs[k]) + 2 * lane + x % 2;
        if (kLoad) std::memcpy(half, memory + 2 * column, 2);
        else std::memcpy(memory + 2 * column, half, 2);
      }
    }
  }
}

void transpose(Warp& w, const Instruction& in, Mask mask) {
  u16 from[2 * kLanes];
  std::copy_n(w.in<u16>(in.a), 2 * kLanes, from);
  u16* d = w.out<u16>(in.d);
  for_lanes(mask, [&](unsigned lane) {
    for (unsigned j = 0; j < 2; ++j) {
      const unsigned row = lane / 4, column = lane % 4 * 2 + j;
      d[2 * lane + j] = from[2 * (column * 4 + row / 2) + row % 2];
    }
  });
}

// Decoding.

Element take_element(Decoder& d) {
  const std::string_view name = d.left();
  for (const NamedElement& known : kElements) {
    if (known.name == name) {
      d.take(name);
      return known.element;
    }
  }
  throw Unsupported{};
}

/// "m16n8k16"
void take_shape(Decoder& d, MatrixPlan& plan) {
  const std::string_view text = d.left();
  unsigned numbers[3] = {0, 0, 0};
  std::size_t part = 0;
  bool good = !text.empty() && text[0] == 'm';
  for (std::size_t i = 1; good && i < text.size(); ++i) {
    if (text[i] >= '0' && text[i] <= '9') numbers[part] = numbers[part] * 10 + static_cast<unsigned>(text[i] - '0');
    else if (part < 2 && text[i] == (part == 0 ? 'n' : 'k')) ++part;
    else good = false;
    good = good && numbers[part] <= 256;
  }
  if (!good || part != 2 || numbers[0] == 0 || numbers[1] == 0 || numbers[2] == 0) d.mismatch();
  d.take(text);
  plan.m = numbers[0];
  plan.n = numbers[1];
  plan.k = numbers[2];
}

std::vector<Ref> registers(Decoder& d, const SyntaxOperand& operand, Element element, bool result) {
  std::vector<Ref> refs;
  const Type type = register_width(element) == 8 ? Type::kB64 : Type::kB32;
  const auto add = [&](const SyntaxOperand& one) { refs.push_back(result ? d.destination(one, type) : d.source(one, type)); };
  if (operand.kind == OperandKind::kVector) std::for_each(operand.items.begin(), operand.items.end(), add);
  else add(operand);
  return refs;
}

/// Every element must have its slot, or gather() and scatter() would leave the matrix.
void check_fragment(Decoder& d, const MatrixPlan& plan, Role role, const std::vector<Ref>& refs, Element element, unsigned elements) {
  const std::size_t slots = refs.size() * per_register(element) * kLanes;
  const bool repeats = plan.opaque && role != Role::kC && element == Element::kF16 && refs.size() == 8;
  if (elements % kLanes != 0 || (repeats ? slots % elements != 0 : slots != elements)) d.mismatch();
  // Rows 8 to 15 are in registers of their own.
  if (!plan.opaque && role == Role::kA && plan.m == 16 && refs.size() % 2 != 0) d.mismatch();
}

void emit_collective(Decoder& d, Instruction& in) {
  in.control = Control::kSync;
  in.x = d.constant(4, kAllLanes);
  d.emit(in);
}

void emit_plan(Decoder& d, Instruction& in, MatrixPlan plan) {
  in.extra = static_cast<u32>(d.function().matrices.size());
  d.function().matrices.push_back(std::move(plan));
  emit_collective(d, in);
}

bool float_source(Element e) {
  return e == Element::kF16 || e == Element::kBf16 || e == Element::kTf32 || e == Element::kF64 || e == Element::kE4m3 || e == Element::kE5m2;
}

void check_types(Decoder& d, const MatrixPlan& plan) {
  const auto small_integer = [](Element e) { return e == Element::kS8 || e == Element::kU8 || e == Element::kS4 || e == Element::kU4; };
  const bool floats = float_source(plan.a) && float_source(plan.b) && bits_of(plan.a) == bits_of(plan.b) &&
                      (plan.a == Element::kF64 ? plan.c == Element::kF64 && plan.d == Element::kF64
                                               : (plan.c == Element::kF32 || plan.c == Element::kF16) &&
                                                     (plan.d == Element::kF32 || plan.d == Element::kF16));
  const bool integers = ((small_integer(plan.a) && small_integer(plan.b)) || (plan.a == Element::kB1 && plan.b == Element::kB1)) &&
                        bits_of(plan.a) == bits_of(plan.b) && plan.c == Element::kS32 && plan.d == Element::kS32;
  if (!floats && !integers) d.mismatch();
}

void decode_multiply(Decoder& d, bool opaque) {
  MatrixPlan plan;
  plan.opaque = opaque;
  if (d.take("sp") || d.take("sp::ordered_metadata") || d.take("block_scale") || d.take("kind::f8f6f4")) throw Unsupported{};
  for (const std::string_view word : {"sync", "aligned", "popc", "and", "row", "col", "row", "col", "rn"}) d.take(word);
  plan.exclusive = d.take("xor");
  plan.saturate = d.take("satfinite");
  take_shape(d, plan);
  const bool quads = !opaque && plan.m == 8 && plan.n == 8 && plan.k == 4;
  plan.d = take_element(d);
  if (opaque && plan.d != Element::kF64 && !d.left().empty()) {
    const Element next = take_element(d);
    if (d.left().empty()) {  // wmma of f16 names only the types of d and c
      plan.a = plan.b = Element::kF16;
      plan.c = next;
    } else {
      plan.a = next;
      plan.b = take_element(d);
      plan.c = take_element(d);
    }
  } else {
    plan.a = take_element(d);
    plan.b = take_element(d);
    plan.c = take_element(d);
  }
  d.finish_modifiers();
  if (quads && plan.a == Element::kF16) throw Unsupported{};  // quad pairs: sm_70 alone is made for it
  check_types(d, plan);
  d.need_operands(4, 4);
  plan.refs = {registers(d, d.operand(0), plan.d, true), registers(d, d.operand(1), plan.a, false),
               registers(d, d.operand(2), plan.b, false), registers(d, d.operand(3), plan.c, false)};
  if (!opaque && ((plan.m != 8 && plan.m != 16) || plan.n != 8)) throw Unsupported{};
  check_fragment(d, plan, Role::kC, plan.refs[0], plan.d, plan.m * plan.n);
  check_fragment(d, plan, Role::kA, plan.refs[1], plan.a, plan.m * plan.k);
  check_fragment(d, plan, Role::kB, plan.refs[2], plan.b, plan.k * plan.n);
  check_fragment(d, plan, Role::kC, plan.refs[3], plan.c, plan.m * plan.n);
  Instruction in;
  in.run = multiply;
  emit_plan(d, in, std::move(plan));
}

void decode_move(Decoder& d, bool load) {
  MatrixPlan plan;
  plan.opaque = true;
  const int role = load ? d.take_any({"a", "b", "c"}) : d.take("d") ? 2 : -1;
  if (role < 0) d.mismatch();
  plan.role = static_cast<Role>(role);
  d.take("sync");
  d.take("aligned");
  plan.by_column = d.take("col");
  if (!plan.by_column && !d.take("row")) d.mismatch();
  Instruction in;
  in.space = d.take_space(Space::kGeneric);
  take_shape(d, plan);
  plan.a = take_element(d);
  d.finish_modifiers();
  d.need_operands(2, 3);
  in.run = load ? load_matrix : store_matrix;
  if (in.space == Space::kParameter || in.space == Space::kKernelParameter || in.space == Space::kLocal) d.mismatch();
  d.address(in, d.operand(load ? 1 : 0));
  const Part part = part_of(plan);
  plan.refs = {registers(d, d.operand(load ? 0 : 1), plan.a, load)};
  check_fragment(d, plan, plan.role, plan.refs[0], plan.a, part.rows * part.columns);
  if (d.operand_count() == 3) in.b = d.source(d.operand(2), Type::kU32);
  emit_plan(d, in, std::move(plan));
}

void wmma(Decoder& d) {
  if (d.take("load")) return decode_move(d, true);
  if (d.take("store")) return decode_move(d, false);
  if (!d.take("mma")) d.mismatch();
  decode_multiply(d, true);
}

template <bool kLoad>
void rows(Decoder& d) {
  Instruction in;
  d.take("sync");
  d.take("aligned");
  if (!d.take("m8n8")) throw Unsupported{};
  const int count = d.take_any({"x1", "x2", "x4"});
  if (count < 0) d.mismatch();
  in.code = d.take("trans");
  in.space = Space::kShared;
  d.take_space(Space::kShared);
  if (!d.take("b16")) throw Unsupported{};
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.run = move_rows<kLoad>;
  d.address(in, d.operand(kLoad ? 1 : 0));
  std::vector<Ref> refs = registers(d, d.operand(kLoad ? 0 : 1), Element::kF32, kLoad);
  if (refs.size() != std::size_t{1} << count) d.mismatch();
  if (!kLoad) {  // a source may be a constant, which has no place to write
    for (const Ref ref : refs) {
      if (ref & kConstantBit) d.mismatch();
    }
  }
  in.extra = static_cast<u32>(d.function().vectors.size());
  d.function().vectors.push_back(std::move(refs));
  emit_collective(d, in);
}

void move_matrix(Decoder& d) {
  Instruction in;
  for (const std::string_view word : {"sync", "aligned", "m8n8", "trans", "b16"}) {
    if (!d.take(word)) d.mismatch();
  }
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.run = transpose;
  in.a = d.source(d.operand(1), Type::kB32);
  in.d = d.destination(d.operand(0), Type::kB32);
  emit_collective(d, in);
}

}  // namespace

void add_matrix_opcodes(Decoder::Table& t) {
  t["mma"] = [](Decoder& d) { decode_multiply(d, false); };
  t["wmma"] = wmma;
  t["ldmatrix"] = rows<true>;
  t["stmatrix"] = rows<false>;
  t["movmatrix"] = move_matrix;
}

}  // namespace avec::cpu::ptx
