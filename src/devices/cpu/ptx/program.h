// A module as it runs: instructions decoded to handlers, operands to offsets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "devices/cpu/ptx/ptx.h"
#include "devices/cpu/ptx/types.h"

namespace avec::cpu::ptx {

class Warp;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&, Mask);

/// Where an operand lies: the top bit says constants (1) or the frame (0), the rest is the
/// offset in bytes of its 32 lanes (of its mask for a predicate).
using Ref = std::uint32_t;
inline constexpr Ref kConstantBit = 0x80000000u;
inline constexpr Ref kNoRef = 0x7FFFFFFFu;

enum class Control : std::uint8_t {
  kNone,    ///< run() and on to the next
  kBranch, kTable, kCall, kReturn, kExit, kBarrier, kSync, kYield, kTrap, kUnsupported, kEndOfBlock
};

enum class Space : std::uint8_t { kGeneric, kGlobal, kConst, kShared, kLocal, kParameter, kKernelParameter };

struct Instruction {
  Handler run = nullptr;
  Control control = Control::kNone;
  Space space = Space::kGeneric;
  std::uint8_t bytes = 0;        ///< of one element in memory
  std::uint8_t count = 1;        ///< elements of a vector
  std::uint8_t width = 0;        ///< bytes of a lane of the data register
  bool is_signed = false, flag = false, flag2 = false, guard_negated = false, costly = false;
  std::uint8_t mode = 0;         ///< rounding, kind of shuffle ...
  std::uint8_t code = 0;         ///< comparison, atomic operation ...
  Ref guard = kNoRef;
  Ref d = kNoRef, e = kNoRef;    ///< destinations
  Ref a = kNoRef, b = kNoRef, c = kNoRef, x = kNoRef;
  std::int64_t immediate = 0;    ///< address offset, look-up table ...
  std::uint32_t target = 0;      ///< instruction of a branch
  std::uint32_t line = 0;
  std::uint32_t extra = 0;       ///< index into Function: calls, tables, vectors
};

enum class Builtin : std::uint8_t { kNone, kPrintf, kAssert, kMalloc, kFree, kSetConditional };

/// Where one argument or result lies: in the parameter area of the frame, or in a register.
struct Argument {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
  Ref ref = kNoRef;
  std::uint8_t width = 0;
};

struct Call {
  std::uint32_t callee = 0;      ///< function, unless by pointer or builtin
  Builtin builtin = Builtin::kNone;
  Ref pointer = kNoRef;
  std::vector<Argument> arguments, results;
};

/// What an element of a matrix is ("PTX ISA", 9.7.14).
enum class Element : std::uint8_t { kF16, kBf16, kTf32, kF32, kF64, kS32, kS8, kU8, kS4, kU4, kB1, kE4m3, kE5m2 };
enum class Role : std::uint8_t { kA, kB, kC };

/// A matrix instruction: d = a * b + c, or one matrix (of type a, in the place of `role`) that moves.
struct MatrixPlan {
  unsigned m = 0, n = 0, k = 0;
  Element d = Element::kF32, a = Element::kF16, b = Element::kF16, c = Element::kF32;
  Role role = Role::kA;
  bool opaque = false;     ///< wmma: how lanes hold elements is not defined
  bool by_column = false;  ///< in memory
  bool saturate = false, exclusive = false;
  std::vector<std::vector<Ref>> refs;  ///< registers of d, a, b, c; or of the one matrix
};

struct Function {
  std::string name;
  bool kernel = false;
  std::vector<Instruction> code;
  std::vector<Call> calls;
  std::vector<std::vector<std::uint32_t>> tables;  ///< targets of brx.idx
  std::vector<std::vector<Ref>> vectors;
  std::vector<MatrixPlan> matrices;
  std::vector<Argument> formals, results;
  std::uint32_t frame_bytes = 0;       ///< registers and parameter area
  std::uint32_t parameters_at = 0;     ///< offset of the parameter area
  std::uint32_t local_bytes = 0;
  std::uint32_t static_shared_bytes = 0;
  std::vector<std::string> unsupported;  ///< instructions that are not supported, in words: Instruction::extra
};

/// A constant operand that needs the address of a variable.
struct ConstantFix {
  std::uint32_t offset = 0;    ///< in constants
  std::uint32_t variable = 0;
};

struct ConstantPool {
  std::vector<std::uint64_t> words;  ///< 8-byte cells; an operand is 32 lanes
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(words.data()); }
};

struct Program {
  std::vector<Function> functions;
  ConstantPool constants;
  std::vector<ConstantFix> fixes;
  std::vector<std::uint64_t> addresses;  ///< of variables, after bind()
};

}  // namespace avec::cpu::ptx
