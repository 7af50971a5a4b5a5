// Statements into instructions. Each family of opcodes has a file with its handlers and the
// functions that choose among them; this class has what they share.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "devices/cpu/ptx/program.h"
#include "devices/cpu/ptx/syntax.h"

namespace avec::cpu::ptx {

/// What is well-formed but not supported on the CPU device. Thrown by decoding functions.
struct Unsupported {};

enum class Rounding : std::uint8_t { kNearest, kZero, kDown, kUp, kAway, kNone };

class Decoder {
 public:
  Decoder(SyntaxModule& module, Program& program) : module_(module), program_(program) {}
  /// Decodes `source` into the program's function of the same index.
  void decode(SyntaxFunction& source);

  using Decode = void (*)(Decoder&);
  using Table = std::unordered_map<std::string_view, Decode>;

  // The statement at hand.
  const Statement& statement() const { return *statement_; }
  std::size_t operand_count() const { return statement_->operands.size(); }
  const SyntaxOperand& operand(std::size_t i) const;
  /// Takes the modifier `name`; false when it is not there.
  bool take(std::string_view name);
  /// Takes the first of `names` that is there: its index, or -1.
  int take_any(std::initializer_list<std::string_view> names);
  /// Takes the next modifier that is a type; kNone when none is left.
  Type take_type();
  Type need_type();
  Type peek_type() const;  ///< the next, not taken
  Rounding take_rounding();
  /// The next modifier not taken, or "".
  std::string_view left() const;
  /// Every modifier must have been taken.
  void finish_modifiers();
  void drop_modifiers() { modifiers_.clear(); }
  void need_operands(std::size_t least, std::size_t most);
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void mismatch() const;

  // Operands.
  Ref source(const SyntaxOperand& operand, Type type) { return source(operand, type, register_bytes(bytes_of(type))); }
  /// As `type`, but a register of `width` bytes a lane.
  Ref source(const SyntaxOperand& operand, Type type, unsigned width);
  Ref destination(const SyntaxOperand& operand, Type type);
  Ref predicate(const SyntaxOperand& operand);          ///< source; without its '!'
  Ref predicate_destination(const SyntaxOperand& operand);  ///< kNoRef for '_'
  /// Bytes of a lane of the register; 0 for a predicate, -1 for what is no register.
  int width_of(const SyntaxOperand& operand) const;
  bool is_predicate(const SyntaxOperand& operand) const { return width_of(operand) == 0; }
  Ref constant(unsigned width, std::uint64_t value);
  Ref temporary(unsigned width);
  Ref wide_register(const SyntaxOperand& operand);  ///< of 128 bits
  /// As the target of a branch to the beginning of the statement at hand.
  std::uint32_t statement_index() const { return static_cast<std::uint32_t>(first_instruction_.size() - 1); }
  Ref carry();  ///< the condition code register of .cc
  Ref symbol_address(const SyntaxOperand& operand, Space space, bool generic);
  /// Sets a, immediate, flag2 (32-bit base register) and space of a memory instruction.
  void address(Instruction& in, const SyntaxOperand& operand);
  std::uint64_t immediate(const SyntaxOperand& operand) const;
  Space take_space(Space otherwise);

  // Instructions.
  /// A copy with guard and line filled in is appended.
  Instruction& emit(const Instruction& in);
  Instruction& emit(Handler run, Ref d, Ref a, Ref b = kNoRef, Ref c = kNoRef);
  /// d, a, b, c from operands 0 ... n of one type each.
  Instruction& emit_plain(Handler run, Type result, std::initializer_list<Type> sources);
  void emit_branch(const SyntaxOperand& label);
  std::uint32_t label(std::string_view name, std::int32_t scope) const;
  void call();
  void table_branch();
  bool in_kernel() const { return source_->kernel; }
  Function& function() { return *function_; }

 private:
  void decode_statement(const Statement& statement);
  void lay_out_blocks();
  Ref register_ref(std::int32_t reg);
  Ref allocate(unsigned bytes);
  Argument argument(const SyntaxOperand& operand);
  Argument formal(const Formal& formal);

  SyntaxModule& module_;
  Program& program_;
  SyntaxFunction* source_ = nullptr;
  Function* function_ = nullptr;
  const Statement* statement_ = nullptr;
  std::vector<std::string_view> modifiers_;
  std::vector<Ref> refs_;
  std::uint32_t frame_top_ = 0;
  Ref carry_ = kNoRef;
  std::vector<std::uint32_t> first_instruction_;  // of each statement, and one past the last
  std::unordered_map<std::uint64_t, Ref> constants_[3];
};

// The families.
void add_integer_opcodes(Decoder::Table& table);
void add_bit_opcodes(Decoder::Table& table);
void add_float_opcodes(Decoder::Table& table);
void add_half_opcodes(Decoder::Table& table);
void add_compare_opcodes(Decoder::Table& table);
void add_convert_opcodes(Decoder::Table& table);
void add_move_opcodes(Decoder::Table& table);
void add_memory_opcodes(Decoder::Table& table);
void add_atomic_opcodes(Decoder::Table& table);
void add_warp_opcodes(Decoder::Table& table);
void add_control_opcodes(Decoder::Table& table);
void add_barrier_opcodes(Decoder::Table& table);
void add_video_opcodes(Decoder::Table& table);
void add_matrix_opcodes(Decoder::Table& table);
void add_cluster_opcodes(Decoder::Table& table);
void cluster_barrier_opcode(Decoder& d);            ///< barrier.cluster
void bulk_copy_opcode(Decoder& d, bool reduces);    ///< cp.async.bulk, cp.reduce.async.bulk
bool convert_small_floats(Decoder& d);              ///< cvt of pairs of 8-bit floats; false: it is none
// What has registers of 128 bits, its modifiers taken.
void move_wide(Decoder& d);
void load_or_store_wide(Decoder& d, Instruction& in, bool is_load);
void exchange_wide(Decoder& d, Instruction& in, bool compares, std::size_t first);
void add_texture_opcodes(Decoder::Table& table);
void copies_arrive_opcode(Decoder& d);  ///< cp.async.mbarrier

// Moves that the decoder itself needs (move_ops.cc).
int special_register(std::string_view name);  ///< -1: there is none of this name
void move_special(Warp&, const Instruction&, Mask);
Handler move_local_address();
Handler move_dynamic_shared();
Handler move_kernel_parameter_address();

}  // namespace avec::cpu::ptx
