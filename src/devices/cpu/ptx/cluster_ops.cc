// Clusters, which are one block here, and what only tunes a GPU ("PTX ISA", 9.7.9.23, 9.7.13).
#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/lanes.h"

namespace avec::cpu::ptx {
namespace {

void nothing(Decoder& d) { d.drop_modifiers(); }

/// An address of shared memory in block b of the cluster: b can only be this one.
template <class T>
void same_address(Warp& w, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned i) {
    if (w.in<u32>(in.b)[i] != 0) return w.fault(Fault::kIllegalAddress);
    w.out<T>(in.d)[i] = w.in<T>(in.a)[i];
  });
}

void map_address(Decoder& d) {
  d.take_space(Space::kGeneric);
  const Type type = d.need_type();
  if (type != Type::kU32 && type != Type::kU64) d.mismatch();
  d.finish_modifiers();
  d.need_operands(3, 3);
  const Ref from = d.source(d.operand(1), type), rank = d.source(d.operand(2), Type::kU32);
  d.emit(type == Type::kU32 ? same_address<u32> : same_address<u64>, d.destination(d.operand(0), type), from, rank);
}

void rank_of(Decoder& d) {
  d.take_space(Space::kGeneric);
  const Type type = d.need_type();
  d.finish_modifiers();
  d.need_operands(2, 2);
  if (type != Type::kU32 && type != Type::kU64) d.mismatch();
  d.source(d.operand(1), type);  // it must be an address; whichever, it is of this block
  d.emit([](Warp& w, const Instruction& in, Mask mask) { for_lanes(mask, [&](unsigned i) { w.out<u32>(in.d)[i] = 0; }); },
         d.destination(d.operand(0), Type::kU32), kNoRef);
}

void arrive(Warp& w, const Instruction&, Mask mask) { w.block().cluster_arrive(w, mask); }

/// d: the lanes whose phase is not over.
void waits(Warp& w, const Instruction& in, Mask mask) { w.set_predicate(in.d, w.cluster_arrived(), mask); }

}  // namespace

/// barrier.cluster: arrive marks a thread, wait is a loop until the mark has gone.
void cluster_barrier_opcode(Decoder& d) {
  const bool arrives = d.take("arrive");
  if (!arrives && !d.take("wait")) d.mismatch();
  for (const std::string_view word : {"aligned", "release", "acquire", "relaxed"}) d.take(word);
  d.finish_modifiers();
  d.need_operands(0, 0);
  if (arrives) {
    d.emit(arrive, kNoRef, kNoRef);
    return;
  }
  const Ref unfinished = d.temporary(2);
  // Lanes that the guard leaves out do not wait.
  Instruction clear;
  clear.run = [](Warp& w, const Instruction& in, Mask mask) { w.set_predicate(in.d, 0, mask); };
  clear.d = unfinished;
  d.emit(clear).guard = kNoRef;
  d.emit(waits, unfinished, kNoRef);
  Instruction pause;
  pause.control = Control::kYield;
  d.emit(pause);
  Instruction again;
  again.control = Control::kBranch;
  again.target = d.statement_index();
  Instruction& branch = d.emit(again);
  branch.guard = unfinished;
  branch.guard_negated = false;
}

void add_cluster_opcodes(Decoder::Table& t) {
  t["mapa"] = map_address;
  t["getctarank"] = rank_of;
  t["griddepcontrol"] = nothing;
  t["setmaxnreg"] = nothing;
  t["pmevent"] = nothing;
}

}  // namespace avec::cpu::ptx
