#include "devices/cpu/ptx/decoder.h"

#include <algorithm>
#include <cstring>

#include "devices/cpu/ptx/layout.h"

namespace avec::cpu::ptx {
namespace {

const Decoder::Table& opcodes() {
  static const Decoder::Table table = [] {
    Decoder::Table t;
    add_integer_opcodes(t);
    add_bit_opcodes(t);
    add_compare_opcodes(t);
    add_convert_opcodes(t);
    add_move_opcodes(t);
    add_memory_opcodes(t);
    add_atomic_opcodes(t);
    add_warp_opcodes(t);
    add_control_opcodes(t);
    add_barrier_opcodes(t);
    add_video_opcodes(t);
    add_matrix_opcodes(t);
    add_cluster_opcodes(t);
    add_texture_opcodes(t);
    return t;
  }();
  return table;
}

/// What the same names mean for floating-point types.
const Decoder::Table& float_opcodes() {
  static const Decoder::Table table = [] {
    Decoder::Table t;
    add_float_opcodes(t);
    return t;
  }();
  return table;
}

const Decoder::Table& half_opcodes() {
  static const Decoder::Table table = [] {
    Decoder::Table t;
    add_half_opcodes(t);
    return t;
  }();
  return table;
}

Decoder::Decode find_opcode(std::string_view opcode, Type type) {
  const bool wide = type == Type::kF32 || type == Type::kF64;
  if (is_float(type)) {
    const Decoder::Table& table = wide ? float_opcodes() : half_opcodes();
    const auto found = table.find(opcode);
    if (found != table.end()) return found->second;
  }
  const auto found = opcodes().find(opcode);
  return found == opcodes().end() ? nullptr : found->second;
}

/// Families of the instruction set that are known and left out.
bool known_but_unsupported(std::string_view opcode) {
  static constexpr std::string_view kNames[] = {
      "wgmma", "tcgen05", "istypep", "multimem", "tensormap", "clusterlaunchcontrol", "vshl",
      "vshr", "vmad", "vset", "vset2", "vset4"};
  return std::find(std::begin(kNames), std::end(kNames), opcode) != std::end(kNames);
}

bool ends_block(const Instruction& in) {
  switch (in.control) {
    case Control::kBranch:
    case Control::kTable:
    case Control::kReturn:
    case Control::kExit:
    case Control::kTrap:
    case Control::kUnsupported: return true;
    default: return false;
  }
}

bool falls_through(const Instruction& in) {
  return !ends_block(in) || in.guard != kNoRef;
}

}  // namespace

void Decoder::fail(const std::string& message) const { throw SyntaxError{statement_->line, message}; }

void Decoder::mismatch() const {
  fail("Arguments mismatch for instruction '" + std::string(statement_->opcode) + "'");
}

const SyntaxOperand& Decoder::operand(std::size_t i) const {
  if (i >= statement_->operands.size()) mismatch();
  return statement_->operands[i];
}

bool Decoder::take(std::string_view name) {
  const auto found = std::find(modifiers_.begin(), modifiers_.end(), name);
  if (found == modifiers_.end()) return false;
  modifiers_.erase(found);
  return true;
}

int Decoder::take_any(std::initializer_list<std::string_view> names) {
  int index = 0;
  for (const std::string_view name : names) {
    if (take(name)) return index;
    ++index;
  }
  return -1;
}

Type Decoder::take_type() {
  for (auto i = modifiers_.begin(); i != modifiers_.end(); ++i) {
    const Type type = type_of(*i);
    if (type == Type::kNone) continue;
    modifiers_.erase(i);
    return type;
  }
  return Type::kNone;
}

Type Decoder::peek_type() const {
  for (const std::string_view name : modifiers_) {
    if (const Type type = type_of(name); type != Type::kNone) return type;
  }
  return Type::kNone;
}

Type Decoder::need_type() {
  const Type type = take_type();
  if (type == Type::kNone) fail("Missing type modifier for instruction '" + std::string(statement_->opcode) + "'");
  return type;
}

Rounding Decoder::take_rounding() {
  switch (take_any({"rn", "rz", "rm", "rp", "rna"})) {
    case 0: return Rounding::kNearest;
    case 1: return Rounding::kZero;
    case 2: return Rounding::kDown;
    case 3: return Rounding::kUp;
    case 4: return Rounding::kAway;
    default: return Rounding::kNone;
  }
}

std::string_view Decoder::left() const { return modifiers_.empty() ? std::string_view{} : modifiers_.front(); }

void Decoder::finish_modifiers() {
  if (!modifiers_.empty()) {
    fail("Unknown modifier '." + std::string(modifiers_.front()) + "' for instruction '" +
         std::string(statement_->opcode) + "'");
  }
}

void Decoder::need_operands(std::size_t least, std::size_t most) {
  if (operand_count() < least || operand_count() > most) mismatch();
}

Ref Decoder::allocate(unsigned bytes) {
  const unsigned alignment = std::min(bytes, 64u);
  frame_top_ = (frame_top_ + alignment - 1) / alignment * alignment;
  const Ref ref = frame_top_;
  frame_top_ += bytes;
  if (frame_top_ > (1u << 29)) throw SyntaxError{source_->line, "Too many registers"};
  return ref;
}

Ref Decoder::register_ref(std::int32_t reg) {
  Ref& ref = refs_[static_cast<std::size_t>(reg)];
  if (ref != kNoRef) return ref;
  const Type type = source_->registers[static_cast<std::size_t>(reg)];
  return ref = allocate(type == Type::kPred ? sizeof(Mask) : kLanes * register_bytes(bytes_of(type)));
}

Ref Decoder::temporary(unsigned width) { return allocate(kLanes * width); }

Ref Decoder::wide_register(const SyntaxOperand& operand) {
  if (width_of(operand) != 16 || operand.negated) mismatch();
  return register_ref(operand.reg);
}

Ref Decoder::carry() { return carry_ == kNoRef ? carry_ = allocate(sizeof(Mask)) : carry_; }

Ref Decoder::constant(unsigned width, std::uint64_t value) {
  if (width < 8) value &= (std::uint64_t{1} << (8 * width)) - 1;
  auto& known = constants_[width == 8 ? 2 : width == 4 ? 1 : 0];
  const auto [found, fresh] = known.try_emplace(value, 0);
  if (!fresh) return found->second;
  auto& words = program_.constants.words;
  const std::size_t at = words.size() * 8;
  if (at > (std::size_t{1} << 29)) fail("Too many constants");
  words.resize(words.size() + kLanes * width / 8);
  auto* cell = reinterpret_cast<std::byte*>(words.data()) + at;
  for (unsigned lane = 0; lane < kLanes; ++lane) std::memcpy(cell + lane * width, &value, width);
  return found->second = static_cast<Ref>(at) | kConstantBit;
}

int Decoder::width_of(const SyntaxOperand& operand) const {
  if (operand.kind != OperandKind::kRegister) return -1;
  const Type type = source_->registers[static_cast<std::size_t>(operand.reg)];
  return type == Type::kPred ? 0 : static_cast<int>(register_bytes(bytes_of(type)));
}

Ref Decoder::source(const SyntaxOperand& operand, Type type, unsigned width) {
  if (operand.negated || width > 8) mismatch();
  switch (operand.kind) {
    case OperandKind::kRegister:
      if (width_of(operand) != static_cast<int>(width)) mismatch();
      return register_ref(operand.reg);
    case OperandKind::kInteger:
      if (type == Type::kF32) return constant(width, std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int64_t>(operand.bits))));
      if (type == Type::kF64) return constant(width, std::bit_cast<std::uint64_t>(static_cast<double>(static_cast<std::int64_t>(operand.bits))));
      return constant(width, operand.bits);
    case OperandKind::kFloat: {
      const float value = std::bit_cast<float>(static_cast<std::uint32_t>(operand.bits));
      return constant(width, width == 8 ? std::bit_cast<std::uint64_t>(double{value}) : operand.bits);
    }
    case OperandKind::kDouble: {
      const double value = std::bit_cast<double>(operand.bits);
      return constant(width, width == 4 ? std::bit_cast<std::uint32_t>(static_cast<float>(value)) : operand.bits);
    }
    case OperandKind::kSpecial: {
      Instruction in;
      in.run = move_special;
      in.width = static_cast<std::uint8_t>(width);
      in.immediate = -1;
      const Ref temp = temporary(width);
      in.d = temp;
      in.immediate = special_register(operand.name);
      if (in.immediate < 0) fail("Unknown special register '" + std::string(operand.name) + "'");
      emit(in);
      return temp;
    }
    case OperandKind::kSymbol:
      if (width == 8) return symbol_address(operand, Space::kGeneric, false);
      if (width == 4) {
        const SymbolKind kind = operand.symbol->kind;
        if (kind == SymbolKind::kShared) return constant(4, operand.symbol->offset + static_cast<std::uint64_t>(operand.offset));
        if (kind == SymbolKind::kDynamicShared || kind == SymbolKind::kLocal) {
          Instruction in;
          in.run = kind == SymbolKind::kLocal ? move_local_address() : move_dynamic_shared();
          in.width = 4;
          in.immediate = static_cast<std::int64_t>(operand.symbol->offset) + operand.offset;
          in.d = temporary(4);
          return emit(in).d;
        }
      }
      mismatch();
    case OperandKind::kLabel: fail("Unknown symbol '" + std::string(operand.name) + "'");
    default: mismatch();
  }
}

Ref Decoder::destination(const SyntaxOperand& operand, Type type) {
  const unsigned width = register_bytes(bytes_of(type));
  if (operand.kind == OperandKind::kSink) return temporary(width);
  if (width_of(operand) != static_cast<int>(width) || operand.negated) mismatch();
  return register_ref(operand.reg);
}

Ref Decoder::predicate(const SyntaxOperand& operand) {
  if (!is_predicate(operand)) mismatch();
  return register_ref(operand.reg);
}

Ref Decoder::predicate_destination(const SyntaxOperand& operand) {
  if (operand.kind == OperandKind::kSink) return kNoRef;
  if (operand.negated) mismatch();
  return predicate(operand);
}

std::uint64_t Decoder::immediate(const SyntaxOperand& operand) const {
  if (operand.kind != OperandKind::kInteger) mismatch();
  return operand.bits;
}

/// A register or constant with the symbol's address: in its own space, or generic.
Ref Decoder::symbol_address(const SyntaxOperand& operand, Space space, bool generic) {
  const Symbol& symbol = *operand.symbol;
  const auto offset = static_cast<std::uint64_t>(operand.offset);
  (void)space;
  switch (symbol.kind) {
    case SymbolKind::kGlobal:
    case SymbolKind::kConst: {
      auto& words = program_.constants.words;
      const auto at = static_cast<std::uint32_t>(words.size() * 8);
      words.resize(words.size() + kLanes, offset);
      program_.fixes.push_back({at, symbol.index});
      return at | kConstantBit;
    }
    case SymbolKind::kFunction: {
      const SyntaxFunction* function = definition_of(module_, symbol);
      if (function == nullptr) fail("Unresolved extern function '" + std::string(symbol.name) + "'");
      return constant(8, kCodeWindow + function->index * kCodeStride);
    }
    case SymbolKind::kShared: return constant(8, symbol.offset + offset + (generic ? kSharedWindow : 0));
    case SymbolKind::kLocal:
    case SymbolKind::kDynamicShared:
    case SymbolKind::kKernelParameter: {
      Instruction in;
      in.run = symbol.kind == SymbolKind::kLocal            ? move_local_address()
               : symbol.kind == SymbolKind::kDynamicShared ? move_dynamic_shared()
                                                           : move_kernel_parameter_address();
      in.width = 8;
      in.immediate = static_cast<std::int64_t>(symbol.offset + offset);
      if (generic && symbol.kind == SymbolKind::kLocal) in.immediate += static_cast<std::int64_t>(kLocalWindow);
      if (generic && symbol.kind == SymbolKind::kDynamicShared) in.immediate += static_cast<std::int64_t>(kSharedWindow);
      in.d = temporary(8);
      return emit(in).d;
    }
    case SymbolKind::kParameter: throw Unsupported{};
    default: mismatch();
  }
}

Space Decoder::take_space(Space otherwise) {
  switch (take_any({"global", "shared", "shared::cta", "shared::cluster", "local", "const", "param", "param::entry",
                    "param::func"})) {
    case 0: return Space::kGlobal;
    case 1:
    case 2:
    case 3: return Space::kShared;
    case 4: return Space::kLocal;
    case 5: return Space::kConst;
    case 6:
    case 7:
    case 8: return Space::kParameter;
    default: return otherwise;
  }
}

void Decoder::address(Instruction& in, const SyntaxOperand& operand) {
  if (operand.kind != OperandKind::kAddress || operand.items.size() != 1) mismatch();
  const SyntaxOperand& base = operand.items[0];
  in.immediate = operand.offset;
  if (base.kind == OperandKind::kInteger) {
    in.a = constant(8, base.bits);
    return;
  }
  if (base.kind == OperandKind::kRegister) {
    const int width = width_of(base);
    if (width != 8 && width != 4) mismatch();
    in.flag2 = width == 4;
    in.a = register_ref(base.reg);
    if (in.space == Space::kParameter) {
      if (!in_kernel()) throw Unsupported{};
      in.space = Space::kGeneric;  // the address of a kernel parameter is a host address
    }
    return;
  }
  if (base.kind != OperandKind::kSymbol) {
    if (base.kind == OperandKind::kLabel) fail("Unknown symbol '" + std::string(base.name) + "'");
    mismatch();
  }
  const SymbolKind kind = base.symbol->kind;
  if (kind == SymbolKind::kParameter || kind == SymbolKind::kKernelParameter) {
    if (in.space != Space::kParameter) mismatch();
    if (kind == SymbolKind::kKernelParameter) in.space = Space::kKernelParameter;
    in.immediate += base.offset;
    if (in.immediate < 0 || static_cast<std::uint64_t>(in.immediate) + in.bytes * in.count > base.symbol->bytes) {
      fail("Access outside of parameter '" + std::string(base.name) + "'");
    }
    in.immediate += static_cast<std::int64_t>(base.symbol->offset);
    return;
  }
  if (in.space == Space::kParameter) mismatch();
  in.a = symbol_address(base, in.space, in.space == Space::kGeneric);
}

Instruction& Decoder::emit(const Instruction& in) {
  Instruction& result = function_->code.emplace_back(in);
  result.line = statement_->line;
  if (statement_->guard >= 0) {
    result.guard = register_ref(statement_->guard);
    result.guard_negated = statement_->guard_negated;
  }
  return result;
}

Instruction& Decoder::emit(Handler run, Ref d, Ref a, Ref b, Ref c) {
  Instruction in;
  in.run = run;
  in.d = d;
  in.a = a;
  in.b = b;
  in.c = c;
  return emit(in);
}

Instruction& Decoder::emit_plain(Handler run, Type result, std::initializer_list<Type> sources) {
  if (run == nullptr) fail("Illegal modifier for instruction '" + std::string(statement_->opcode) + "'");
  need_operands(sources.size() + 1, sources.size() + 1);
  finish_modifiers();
  Ref refs[3] = {kNoRef, kNoRef, kNoRef};
  std::size_t i = 0;
  for (const Type type : sources) {
    refs[i] = source(operand(i + 1), type);
    ++i;
  }
  return emit(run, destination(operand(0), result), refs[0], refs[1], refs[2]);
}

std::uint32_t Decoder::label(std::string_view name, std::int32_t scope) const {
  for (; scope >= 0; scope = source_->scope_parents[static_cast<std::size_t>(scope)]) {
    const auto found = source_->labels.find({scope, name});
    if (found != source_->labels.end()) return found->second;
  }
  fail("Unknown label '" + std::string(name) + "'");
}

void Decoder::emit_branch(const SyntaxOperand& target) {
  if (target.kind != OperandKind::kLabel) mismatch();
  Instruction in;
  in.control = Control::kBranch;
  in.target = label(target.name, statement_->scope);  // a statement until blocks are laid out
  emit(in);
}

void Decoder::table_branch() {
  take("uni");
  finish_modifiers();
  need_operands(2, 2);
  if (operand(1).kind != OperandKind::kSymbol || operand(1).symbol->kind != SymbolKind::kTable) mismatch();
  const Symbol& symbol = *operand(1).symbol;
  Instruction in;
  in.control = Control::kTable;
  in.a = source(operand(0), Type::kU32);
  in.extra = static_cast<std::uint32_t>(function_->tables.size());
  std::vector<std::uint32_t>& targets = function_->tables.emplace_back();
  for (const std::string_view name : symbol.targets) targets.push_back(label(name, symbol.scope));
  emit(in);
}

Argument Decoder::argument(const SyntaxOperand& operand) {
  if (operand.kind == OperandKind::kSymbol && operand.symbol->kind == SymbolKind::kParameter) {
    return {static_cast<std::uint32_t>(operand.symbol->offset), static_cast<std::uint32_t>(operand.symbol->bytes), kNoRef, 0};
  }
  const int width = width_of(operand);
  if (width == 0) throw Unsupported{};
  const auto bytes = static_cast<unsigned>(width < 0 ? 8 : width);
  const Type type = bytes == 8 ? Type::kB64 : bytes == 4 ? Type::kB32 : Type::kB16;
  return {0, bytes, source(operand, type), static_cast<std::uint8_t>(bytes)};
}

Argument Decoder::formal(const Formal& formal) {
  if (formal.symbol != nullptr) return {static_cast<std::uint32_t>(formal.symbol->offset), formal.bytes, kNoRef, 0};
  const Ref ref = register_ref(formal.reg);
  return {0, formal.bytes, ref, static_cast<std::uint8_t>(register_bytes(formal.bytes))};
}

void Decoder::call() {
  take("uni");
  finish_modifiers();
  need_operands(1, 4);
  Call call;
  std::size_t at = 0;
  if (operand(at).kind == OperandKind::kList) {
    for (const SyntaxOperand& o : operand(at).items) call.results.push_back(argument(o));
    ++at;
  }
  const SyntaxOperand& callee = operand(at++);
  if (at < operand_count() && operand(at).kind == OperandKind::kList) {
    for (const SyntaxOperand& o : operand(at).items) call.arguments.push_back(argument(o));
    ++at;
  }
  if (callee.kind == OperandKind::kRegister) {
    call.pointer = source(callee, Type::kU64);
  } else if (callee.kind == OperandKind::kSymbol && callee.symbol->kind == SymbolKind::kFunction) {
    const std::string_view name = callee.symbol->name;
    const SyntaxFunction* target = definition_of(module_, *callee.symbol);
    if (target != nullptr) {
      if (target->kernel || target->formals.size() != call.arguments.size() ||
          target->results.size() != call.results.size()) {
        mismatch();
      }
      call.callee = target->index;
    } else {
      const std::size_t arguments = call.arguments.size();
      if (name == "vprintf" && arguments == 2) call.builtin = Builtin::kPrintf;
      else if (name == "__assertfail" && arguments == 5) call.builtin = Builtin::kAssert;
      else if (name == "malloc" && arguments == 1) call.builtin = Builtin::kMalloc;
      else if (name == "free" && arguments == 1) call.builtin = Builtin::kFree;
      else if (name == "cudaGraphSetConditional" && arguments == 2) call.builtin = Builtin::kSetConditional;
      else if (name.starts_with("cuda") || name.starts_with("__cuda")) throw Unsupported{};
      else fail("Unresolved extern function '" + std::string(name) + "'");
    }
  } else {
    if (callee.kind == OperandKind::kLabel) fail("Unknown symbol '" + std::string(callee.name) + "'");
    mismatch();
  }
  Instruction in;
  in.control = Control::kCall;
  in.extra = static_cast<std::uint32_t>(function_->calls.size());
  function_->calls.push_back(std::move(call));
  emit(in);
}

void Decoder::decode_statement(const Statement& statement) {
  statement_ = &statement;
  modifiers_ = statement.modifiers;
  const Decode found = find_opcode(statement.opcode, peek_type());
  const std::size_t code_size = function_->code.size();
  try {
    if (found == nullptr) {
      if (!known_but_unsupported(statement.opcode)) {
        fail("Not a name of any known instruction: '" + std::string(statement.opcode) + "'");
      }
      throw Unsupported{};
    }
    found(*this);
  } catch (const Unsupported&) {
    function_->code.resize(code_size);
    Instruction in;
    in.control = Control::kUnsupported;
    in.extra = static_cast<std::uint32_t>(function_->unsupported.size());
    emit(in);
    std::string name(statement.opcode);
    for (const std::string_view modifier : statement.modifiers) name.append(".").append(modifier);
    for (const SyntaxOperand& operand : statement.operands) {
      const bool names_function = operand.kind == OperandKind::kSymbol && operand.symbol->kind == SymbolKind::kFunction;
      if (statement.opcode == "call" && names_function) name.append(" ").append(operand.symbol->name);
    }
    function_->unsupported.push_back("ptx line " + std::to_string(statement.line) + ": instruction '" + name +
                                     "' is not supported on the CPU device");
  }
}

void Decoder::decode(SyntaxFunction& source) {
  source_ = &source;
  function_ = &program_.functions[source.index];
  function_->name = source.name;
  function_->kernel = source.kernel;
  function_->local_bytes = (source.local_bytes + 15) / 16 * 16;
  function_->static_shared_bytes = source.static_shared_bytes;
  refs_.assign(source.registers.size(), kNoRef);
  frame_top_ = 0;
  carry_ = kNoRef;
  first_instruction_.clear();
  Statement none;
  none.line = source.line;
  statement_ = &none;
  if (!source.kernel) {
    for (const Formal& f : source.formals) function_->formals.push_back(formal(f));
    for (const Formal& f : source.results) function_->results.push_back(formal(f));
  }
  for (const Statement& statement : source.statements) {
    first_instruction_.push_back(static_cast<std::uint32_t>(function_->code.size()));
    decode_statement(statement);
  }
  statement_ = &none;
  first_instruction_.push_back(static_cast<std::uint32_t>(function_->code.size()));
  Instruction end;  // falling off the end returns
  end.control = source.kernel ? Control::kExit : Control::kReturn;
  emit(end);
  lay_out_blocks();
  function_->parameters_at = (frame_top_ + 63) / 64 * 64;
  function_->frame_bytes = function_->parameters_at + (source.parameter_bytes + 7) / 4 * 4 * kLanes;
}

void Decoder::lay_out_blocks() {
  std::vector<Instruction>& code = function_->code;
  const auto instruction_of = [&](std::uint32_t statement) { return first_instruction_[statement]; };
  std::vector<bool> leads(code.size() + 1, false);
  leads[0] = true;
  for (std::size_t i = 0; i < code.size(); ++i) {
    if (code[i].control == Control::kBranch) leads[code[i].target = instruction_of(code[i].target)] = true;
    if (ends_block(code[i])) leads[i + 1] = true;
  }
  for (auto& table : function_->tables) {
    for (std::uint32_t& target : table) leads[target = instruction_of(target)] = true;
  }
  std::vector<std::uint32_t> begins, block_of(code.size());
  for (std::size_t i = 0; i < code.size(); ++i) {
    if (leads[i]) begins.push_back(static_cast<std::uint32_t>(i));
    block_of[i] = static_cast<std::uint32_t>(begins.size() - 1);
  }
  begins.push_back(static_cast<std::uint32_t>(code.size()));
  std::vector<std::vector<std::uint32_t>> successors(begins.size() - 1);
  for (std::uint32_t block = 0; block + 1 < begins.size(); ++block) {
    const Instruction& last = code[begins[block + 1] - 1];
    if (last.control == Control::kBranch) successors[block].push_back(block_of[last.target]);
    if (last.control == Control::kTable) {
      for (const std::uint32_t target : function_->tables[last.extra]) successors[block].push_back(block_of[target]);
    }
    if (falls_through(last) && block + 2 < begins.size()) successors[block].push_back(block + 1);
  }
  const std::vector<std::uint32_t> order = weak_topological_order(successors);
  std::vector<Instruction> laid;
  std::vector<std::uint32_t> new_begin(begins.size(), 0);
  laid.reserve(code.size() + order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint32_t block = order[i];
    new_begin[block] = static_cast<std::uint32_t>(laid.size());
    laid.insert(laid.end(), code.begin() + begins[block], code.begin() + begins[block + 1]);
    const bool next_follows = i + 1 < order.size() && order[i + 1] == block + 1;
    if (falls_through(code[begins[block + 1] - 1]) && !next_follows) {
      Instruction jump;
      jump.control = Control::kBranch;
      jump.line = laid.back().line;
      jump.target = begins[block + 1];
      laid.push_back(jump);
    }
  }
  for (Instruction& in : laid) {
    if (in.control == Control::kBranch) in.target = new_begin[block_of[in.target]];
  }
  for (auto& table : function_->tables) {
    for (std::uint32_t& target : table) target = new_begin[block_of[target]];
  }
  code = std::move(laid);
}

}  // namespace avec::cpu::ptx
