// Fragments: which lanes run next, where they part and meet.
#include "devices/cpu/ptx/warp.h"

#include <algorithm>
#include <limits>

#include "devices/cpu/ptx/block.h"

namespace avec::cpu::ptx {
namespace {

/// Instructions that a fragment may run while others of its warp wait, before they get a turn.
constexpr std::int32_t kPatience = 20000;
/// What an instruction of a spin loop (atomic, volatile) takes of it.
constexpr std::int32_t kSpinCost = 100;
constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t kMaxCallDepth = 1u << 14;

/// Turns first, then the deepest call, then the lowest instruction: see layout.h.
bool runs_before(const Fragment& a, const Fragment& b) {
  if (a.turn != b.turn) return a.turn < b.turn;
  if (a.frame->depth != b.frame->depth) return a.frame->depth > b.frame->depth;
  return a.pc < b.pc;
}

}  // namespace

Warp::Warp(Block& block, Run& run, std::uint32_t index, std::uint32_t threads)
    : block_(block), run_(run), index_(index) {
  live_ = threads >= kLanes ? kAllLanes : (Mask{1} << threads) - 1;
  dead_ = ~live_;
  bases_[1] = const_cast<std::byte*>(run.program().constants.data());
  Frame* frame = new_frame(run.kernel());
  frame->lanes = live_;
  if (!ensure_local(run.kernel().local_bytes)) fault(Fault::kIllegalAddress);
  fragments_[0] = {frame, 0, live_, FragmentState::kReady, 0, nullptr};
  count_ = 1;
  patience_ = kPatience;
  enter_frame(frame);
}

Frame* Warp::new_frame(const Function& function) {
  std::unique_ptr<Frame> frame;
  if (!free_frames_.empty()) {
    frame = std::move(free_frames_.back());
    free_frames_.pop_back();
  } else {
    frame = std::make_unique<Frame>();
  }
  const std::size_t need = function.frame_bytes + 64;
  if (frame->capacity < need) {
    frame->storage = std::make_unique<std::byte[]>(need);
    frame->capacity = need;
  }
  const auto at = reinterpret_cast<std::uintptr_t>(frame->storage.get());
  frame->registers = frame->storage.get() + (64 - at % 64) % 64;
  frame->function = &function;
  frame->parent = nullptr;
  frame->call = nullptr;
  frame->depth = 0;
  frame->local_base = 0;
  frame->dynamic_local = 0;
  frames_.push_back(std::move(frame));
  return frames_.back().get();
}

void Warp::free_frame(Frame* frame) {
  const auto found = std::find_if(frames_.rbegin(), frames_.rend(), [&](const auto& f) { return f.get() == frame; });
  free_frames_.push_back(std::move(*found));
  frames_.erase(std::next(found).base());
}

void Warp::enter_frame(Frame* frame) {
  frame_ = frame;
  bases_[0] = frame->registers;
}

bool Warp::ready() const {
  return std::any_of(fragments_.begin(), fragments_.begin() + count_,
                     [](const Fragment& f) { return f.state == FragmentState::kReady; });
}

void Warp::split(std::uint32_t pc, Mask mask, Frame* frame) {
  fragments_[count_++] = {frame, pc, mask, FragmentState::kReady, 0, nullptr};
  repick_ = true;
}

/// The current fragment takes in all that have come to the same place.
void Warp::pick() {
  std::uint32_t best = kLanes;
  for (std::uint32_t i = 0; i < count_; ++i) {
    const Fragment& f = fragments_[i];
    if (f.state != FragmentState::kReady) continue;
    if (best == kLanes || runs_before(f, fragments_[best])) best = i;
  }
  if (best == kLanes) {
    current_ = kLanes;
    return;
  }
  if (fragments_[best].turn != 0) {  // all had their turn: begin anew
    for (std::uint32_t i = 0; i < count_; ++i) fragments_[i].turn = 0;
  }
  if (count_ == 1) patience_ = kPatience;
  Fragment& chosen = fragments_[best];
  for (std::uint32_t i = 0; i < count_;) {
    Fragment& other = fragments_[i];
    if (i == best || other.state == FragmentState::kBarrier || other.frame != chosen.frame || other.pc != chosen.pc) {
      ++i;
      continue;
    }
    fragments_[best].mask |= other.mask;
    fragments_[i] = fragments_[--count_];
    if (best == count_) best = i;
    return pick();  // `chosen` may have moved
  }
  current_ = best;
  repick_ = false;
  enter_frame(chosen.frame);
  update_limit();
}

void Warp::update_limit() {
  limit_ = kNoLimit;
  const Fragment& me = fragments_[current_];
  for (std::uint32_t i = 0; i < count_; ++i) {
    const Fragment& other = fragments_[i];
    if (i == current_ || other.state == FragmentState::kBarrier || other.frame != me.frame) continue;
    if (other.pc > me.pc) limit_ = std::min(limit_, other.pc);
  }
}

Pause Warp::run(std::uint32_t budget) {
  if (faulted()) return Pause::kFault;
  yield_ = false;
  for (repick_ = true; budget != 0;) {
    if (repick_) {
      pick();
      if (current_ == kLanes) return live_ == 0 ? Pause::kDone : Pause::kBlocked;
    }
    Fragment& f = fragments_[current_];
    const Instruction* code = f.frame->function->code.data();
    std::uint32_t pc = f.pc;
    const Mask active = f.mask;
    while (budget != 0) {
      const Instruction& in = code[pc];
      Mask mask = active;
      if (in.guard != kNoRef) {
        const Mask p = predicate(in.guard);
        mask &= in.guard_negated ? ~p : p;
      }
      --budget;
      patience_ -= in.costly ? kSpinCost : 1;
      line_ = in.line;
      if (in.control != Control::kNone) {
        f.pc = pc;
        step_control(in, mask);
        break;
      }
      if (mask != 0) {
        in.run(*this, in, mask);
        if (faulted()) return Pause::kFault;
      }
      if (++pc >= limit_) {
        f.pc = pc;
        repick_ = true;
        break;
      }
      if (budget == 0) f.pc = pc;
    }
    if (faulted()) return Pause::kFault;
    if (count_ > 1 && patience_ <= 0 && current_ < count_) {
      fragments_[current_].turn = 1;
      patience_ = kPatience;
      repick_ = true;
    }
    if (yield_) break;
  }
  return live_ == 0 ? Pause::kDone : Pause::kSlice;
}

void Warp::step_control(const Instruction& in, Mask mask) {
  Fragment& f = fragments_[current_];
  switch (in.control) {
    case Control::kBranch: return branch(mask, in.target);
    case Control::kTable: return table(in, mask);
    case Control::kCall: return call(in, mask);
    case Control::kReturn:
      if (mask == 0) break;
      return f.frame->parent == nullptr ? exit_lanes(mask) : leave_call(mask);
    case Control::kExit:
      if (mask == 0) break;
      return exit_lanes(mask);
    case Control::kBarrier: return barrier(in, mask);
    case Control::kSync: return sync(in, mask);
    case Control::kYield:
      yield_ = true;
      patience_ -= kPatience / 4;
      break;
    case Control::kTrap:
      if (mask != 0) fault(static_cast<Fault>(in.code));
      break;
    default:
      if (mask != 0) unsupported(in);
      break;
  }
  ++f.pc;
  if (f.pc >= limit_) repick_ = true;
}

/// Only what is executed counts: a program that never comes here runs.
void Warp::unsupported(const Instruction& in) {
  run_.output(2, "avec: kernel " + run_.kernel().name + ": " + frame_->function->unsupported[in.extra] + "\n");
  fault(Fault::kIllegalInstruction);
}

void Warp::branch(Mask taken, std::uint32_t target) {
  Fragment& f = fragments_[current_];
  const std::uint32_t next = f.pc + 1;
  if (taken == f.mask) {
    if (count_ > 1 && (target < f.pc || target >= limit_)) repick_ = true;
    f.pc = target;
  } else if (taken == 0) {
    f.pc = next;
    if (next >= limit_) repick_ = true;
  } else {
    f.mask &= ~taken;
    f.pc = next;
    split(target, taken, f.frame);
  }
}

void Warp::table(const Instruction& in, Mask mask) {
  Fragment& f = fragments_[current_];
  const std::uint32_t next = f.pc + 1;
  const std::vector<std::uint32_t>& targets = f.frame->function->tables[in.extra];
  const std::uint32_t* index = this->in<std::uint32_t>(in.a);
  const Mask rest = f.mask & ~mask;
  Frame* frame = f.frame;
  bool first = rest == 0;
  if (!first) {
    f.mask = rest;
    f.pc = next;
  }
  while (mask != 0) {
    const std::uint32_t value = index[std::countr_zero(mask)];
    if (value >= targets.size()) return fault(Fault::kInvalidPc);
    Mask same = 0;
    for_lanes(mask, [&](unsigned i) { same |= Mask{index[i] == value} << i; });
    if (first) {
      fragments_[current_].mask = same;
      fragments_[current_].pc = targets[value];
      first = false;
    } else {
      split(targets[value], same, frame);
    }
    mask &= ~same;
  }
  repick_ = true;
}

void Warp::call(const Instruction& in, Mask mask) {
  Fragment& f = fragments_[current_];
  const Call& call = f.frame->function->calls[in.extra];
  if (mask == 0 || call.builtin != Builtin::kNone) {
    if (mask != 0) run_builtin(*this, call, mask);
    ++f.pc;
    if (f.pc >= limit_) repick_ = true;
    return;
  }
  if (call.pointer == kNoRef) return enter(run_.program().functions[call.callee], call, mask);
  const std::uint64_t* pointer = this->in<std::uint64_t>(call.pointer);
  const std::uint64_t value = pointer[std::countr_zero(mask)];
  Mask same = 0;
  for_lanes(mask, [&](unsigned i) { same |= Mask{pointer[i] == value} << i; });
  const std::uint64_t number = (value - kCodeWindow) / kCodeStride;
  if (value < kCodeWindow || number >= run_.program().functions.size() || value % kCodeStride != 0) return fault(Fault::kInvalidPc);
  const Function& callee = run_.program().functions[number];
  if (callee.kernel || callee.code.empty() || callee.formals.size() != call.arguments.size() ||
      callee.results.size() != call.results.size()) {
    return fault(Fault::kInvalidPc);
  }
  if (same != mask) {  // the other targets: the same instruction again
    f.mask &= ~(mask & ~same);
    split(f.pc, mask & ~same, f.frame);
  }
  enter(callee, call, same);
}

namespace {

/// Copies `lanes` of an argument between two frames.
void copy_argument(const Argument& from, const Frame& source, const std::byte* constants, const Argument& to, const Frame& target, Mask lanes) {
  const std::uint32_t bytes = std::min(from.bytes, to.bytes);
  const std::byte* in = source.registers + source.function->parameters_at;
  std::byte* out = target.registers + target.function->parameters_at;
  if (from.ref == kNoRef && to.ref == kNoRef && from.offset % 4 == 0 && to.offset % 4 == 0) {
    for (std::uint32_t word = 0; word < (bytes + 3) / 4; ++word) {
      const std::byte* a = parameter_byte(const_cast<std::byte*>(in), from.offset + 4 * word, 0);
      std::byte* b = parameter_byte(out, to.offset + 4 * word, 0);
      if (lanes == kAllLanes) std::memcpy(b, a, 4 * kLanes);
      else for_lanes(lanes, [&](unsigned i) { std::memcpy(b + 4 * i, a + 4 * i, 4); });
    }
    return;
  }
  for_lanes(lanes, [&](unsigned i) {
    std::uint64_t value = 0;
    if (from.ref != kNoRef) {
      const std::byte* base = from.ref & kConstantBit ? constants : source.registers;
      std::memcpy(&value, base + (from.ref & ~kConstantBit) + i * from.width, from.width);
    } else {
      value = read_parameter(in, from.offset, std::min(bytes, 8u), i);
    }
    if (to.ref != kNoRef) std::memcpy(target.registers + to.ref + i * to.width, &value, to.width);
    else write_parameter(out, to.offset, std::min(bytes, 8u), i, value);
  });
}

}  // namespace

void Warp::enter(const Function& callee, const Call& call, Mask mask) {
  Fragment& f = fragments_[current_];
  Frame* caller = f.frame;
  Frame* frame = new_frame(callee);
  frame->parent = caller;
  frame->call = &call;
  frame->lanes = mask;
  frame->depth = caller->depth + 1;
  frame->return_to = f.pc + 1;
  frame->local_base = caller->local_base + caller->function->local_bytes + caller->dynamic_local;
  if (frame->depth > kMaxCallDepth || !ensure_local(std::uint64_t{frame->local_base} + callee.local_bytes)) {
    return fault(Fault::kIllegalAddress);
  }
  for (std::size_t i = 0; i < call.arguments.size(); ++i) {
    copy_argument(call.arguments[i], *caller, bases_[1], callee.formals[i], *frame, mask);
  }
  const Mask rest = f.mask & ~mask;
  if (rest == 0) {
    f.frame = frame;
    f.pc = 0;
    repick_ = true;
  } else {
    f.mask = rest;
    ++f.pc;
    split(0, mask, frame);
  }
}

void Warp::leave_call(Mask mask) {
  Fragment& f = fragments_[current_];
  Frame* frame = f.frame;
  const Call& call = *frame->call;
  for (std::size_t i = 0; i < call.results.size(); ++i) {
    copy_argument(frame->function->results[i], *frame, bases_[1], call.results[i], *frame->parent, mask);
  }
  frame->lanes &= ~mask;
  const Mask rest = f.mask & ~mask;
  Frame* caller = frame->parent;
  const std::uint32_t back = frame->return_to;
  if (rest == 0) {
    f.frame = caller;
    f.pc = back;
    repick_ = true;
  } else {
    f.mask = rest;
    ++f.pc;
    split(back, mask, caller);
  }
  if (frame->lanes == 0) free_frame(frame);
}

/// A fragment that waits for lanes by name need not wait for those that are gone.
void Warp::lose(Mask mask) {
  live_ &= ~mask;
  dead_ |= mask;
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (fragments_[i].state == FragmentState::kSync) fragments_[i].state = FragmentState::kReady;
  }
  block_.threads_left(static_cast<std::uint32_t>(std::popcount(mask)));
}

void Warp::exit_lanes(Mask mask) {
  Fragment& f = fragments_[current_];
  for (Frame* frame = f.frame; frame != nullptr;) {
    Frame* parent = frame->parent;
    frame->lanes &= ~mask;
    if (frame->lanes == 0 && parent != nullptr) free_frame(frame);
    frame = parent;
  }
  f.mask &= ~mask;
  if (f.mask == 0) {
    fragments_[current_] = fragments_[--count_];
    current_ = kLanes;
  } else {
    ++f.pc;
  }
  repick_ = true;
  lose(mask);
}

void Warp::barrier(const Instruction& in, Mask mask) {
  Fragment& f = fragments_[current_];
  ++f.pc;
  if (f.pc >= limit_) repick_ = true;
  if (mask == 0) return;
  Block::Arrival arrival;
  const auto first = static_cast<unsigned>(std::countr_zero(mask));
  arrival.id = this->in<std::uint32_t>(in.a)[first];
  if (in.b != kNoRef) arrival.expected = this->in<std::uint32_t>(in.b)[first];
  if (arrival.id >= 16 || (in.b != kNoRef && arrival.expected == 0)) return fault(Fault::kIllegalInstruction);
  arrival.threads = static_cast<std::uint32_t>(std::popcount(mask));
  arrival.credit = mask == live_ ? kLanes : arrival.threads;
  if (in.c != kNoRef) {
    const Mask p = in.flag2 ? ~predicate(in.c) : predicate(in.c);
    arrival.votes = static_cast<std::uint32_t>(std::popcount(p & mask));
  }
  if (!in.flag) {  // bar.arrive does not wait
    const Mask rest = f.mask & ~mask;
    f.state = FragmentState::kBarrier;
    f.waits = &in;
    f.mask = mask;
    f.turn = 0;
    if (rest != 0) split(f.pc, rest, f.frame);
    repick_ = true;
  }
  block_.arrive(arrival);
}

void Warp::release_barrier(std::uint32_t id, std::uint32_t votes_and_threads) {
  const std::uint32_t votes = votes_and_threads & 0xFFFF, threads = votes_and_threads >> 16;
  for (std::uint32_t i = 0; i < count_; ++i) {
    Fragment& f = fragments_[i];
    if (f.state != FragmentState::kBarrier) continue;
    const Instruction& in = *f.waits;
    const std::byte* base = in.a & kConstantBit ? bases_[1] : f.frame->registers;
    std::uint32_t waits_on = 0;
    std::memcpy(&waits_on, base + (in.a & ~kConstantBit) + 4 * static_cast<unsigned>(std::countr_zero(f.mask)), 4);
    if (waits_on != id) continue;
    f.state = FragmentState::kReady;
    if (in.d == kNoRef) continue;
    if (in.code == 0) {
      auto* d = reinterpret_cast<std::uint32_t*>(f.frame->registers + in.d);
      for_lanes(f.mask, [&](unsigned lane) { d[lane] = votes; });
    } else {
      auto* p = reinterpret_cast<Mask*>(f.frame->registers + in.d);
      const bool result = in.code == 1 ? votes == threads : votes != 0;
      *p = result ? *p | f.mask : *p & ~f.mask;
    }
  }
}

/// An instruction that needs all lanes of its member mask (register x): those groups that are
/// complete go on, the others wait for the lanes to come.
void Warp::sync(const Instruction& in, Mask mask) {
  Fragment& f = fragments_[current_];
  const std::uint32_t next = f.pc + 1;
  Mask ready = 0;
  const std::uint32_t* members = this->in<std::uint32_t>(in.x);
  for (Mask left = mask; left != 0;) {
    const std::uint32_t member = members[std::countr_zero(left)];
    Mask group = 0;
    for_lanes(left, [&](unsigned i) { group |= Mask{members[i] == member} << i; });
    left &= ~group;
    if (((member & live_) & ~group) == 0 || forced_) {
      if (in.run != nullptr) in.run(*this, in, group);
      ready |= group;
    }
  }
  forced_ = false;
  const Mask waits = mask & ~ready;
  if (waits == 0) {
    f.pc = next;
    if (next >= limit_) repick_ = true;
    return;
  }
  const Mask goes = f.mask & ~waits;
  f.mask = waits;
  f.state = FragmentState::kSync;
  repick_ = true;
  if (goes != 0) split(next, goes, f.frame);
}

bool Warp::force_sync() {
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (fragments_[i].state != FragmentState::kSync) continue;
    fragments_[i].state = FragmentState::kReady;
    forced_ = true;
    return true;
  }
  return false;
}

}  // namespace avec::cpu::ptx
