// Branches, calls, barriers ("PTX ISA", 9.7.12 and 9.7.13).
#include "devices/cpu/ptx/decoder.h"

namespace avec::cpu::ptx {
namespace {

template <Control kControl>
void plain(Decoder& d) {
  d.take("uni");
  d.finish_modifiers();
  d.need_operands(0, 0);
  Instruction in;
  in.control = kControl;
  d.emit(in);
}

void barrier(Decoder& d) {
  if (d.take("cluster")) return cluster_barrier_opcode(d);
  d.take("cta");
  d.take("aligned");
  Instruction in;
  if (d.take("warp")) {
    if (!d.take("sync")) d.mismatch();
    d.finish_modifiers();
    d.need_operands(1, 1);
    in.control = Control::kSync;
    in.x = d.source(d.operand(0), Type::kB32);
    d.emit(in);
    return;
  }
  in.control = Control::kBarrier;
  std::size_t at = 0;
  std::size_t vote = 0;
  const int kind = d.take_any({"sync", "arrive", "red"});
  if (kind < 0) d.mismatch();
  if (kind == 2) {
    const int operation = d.take_any({"popc", "and", "or"});
    if (operation < 0) d.mismatch();
    in.code = static_cast<std::uint8_t>(operation);
    const Type type = d.need_type();
    if (type != (operation == 0 ? Type::kU32 : Type::kPred)) d.mismatch();
    in.d = operation == 0 ? d.destination(d.operand(0), type) : d.predicate_destination(d.operand(0));
    at = 1;
    vote = d.operand_count() - 1;
    in.c = d.predicate(d.operand(vote));
    in.flag2 = d.operand(vote).negated;
  }
  d.take("aligned");
  d.finish_modifiers();
  in.flag = kind == 1;
  const std::size_t end = kind == 2 ? vote : d.operand_count();
  if (end <= at || end - at > 2) d.mismatch();
  in.a = d.source(d.operand(at), Type::kU32);
  if (end - at == 2) in.b = d.source(d.operand(at + 1), Type::kU32);
  if (in.flag && in.b == kNoRef) d.mismatch();
  d.emit(in);
}

void trap(Decoder& d) {
  d.finish_modifiers();
  d.need_operands(0, 0);
  Instruction in;
  in.control = Control::kTrap;
  in.code = static_cast<std::uint8_t>(Fault::kTrap);
  d.emit(in);
}

}  // namespace

void add_control_opcodes(Decoder::Table& t) {
  t["bra"] = [](Decoder& d) {
    d.take("uni");
    d.finish_modifiers();
    d.need_operands(1, 1);
    d.emit_branch(d.operand(0));
  };
  t["brx"] = [](Decoder& d) {
    if (!d.take("idx")) d.mismatch();
    d.table_branch();
  };
  t["call"] = [](Decoder& d) { d.call(); };
  t["ret"] = plain<Control::kReturn>;
  t["exit"] = plain<Control::kExit>;
  t["trap"] = t["brkpt"] = trap;
  t["bar"] = t["barrier"] = barrier;
  t["nanosleep"] = [](Decoder& d) {
    d.drop_modifiers();
    d.need_operands(1, 1);
    Instruction in;
    in.control = Control::kYield;
    d.emit(in);
  };
}

}  // namespace avec::cpu::ptx
