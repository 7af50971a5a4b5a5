#include "devices/cpu/ptx/layout.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "devices/cpu/ptx/syntax.h"

namespace avec::cpu::ptx {
namespace {

/// Bourdoncle's algorithm with an explicit stack: generated kernels have thousands of blocks.
/// Writes the order backwards.
class Orderer {
 public:
  explicit Orderer(const std::vector<std::vector<std::uint32_t>>& successors)
      : successors_(successors), number_(successors.size(), 0) {}

  std::vector<std::uint32_t> run() {
    visit(0);
    std::reverse(order_.begin(), order_.end());
    return std::move(order_);
  }

 private:
  static constexpr std::uint32_t kDone = std::numeric_limits<std::uint32_t>::max();
  struct Frame {
    std::uint32_t block = 0;
    std::size_t next = 0;
    std::uint32_t head = 0;
    bool loop = false;
    bool component = false;  // second pass: the body of the loop that `block` heads
  };

  void enter(std::uint32_t block) {
    open_.push_back(block);
    number_[block] = ++count_;
    frames_.push_back({block, 0, number_[block], false, false});
  }

  void visit(std::uint32_t start) {
    enter(start);
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      const auto& next = successors_[frame.block];
      if (frame.next < next.size()) {
        const std::uint32_t to = next[frame.next];
        if (number_[to] == 0) {
          ++frame.next;
          enter(to);  // its head comes back through leave()
        } else {
          ++frame.next;
          if (!frame.component) lower(frame, number_[to]);
        }
        continue;
      }
      leave();
    }
  }

  static void lower(Frame& frame, std::uint32_t head) {
    if (head <= frame.head) {
      frame.head = head;
      frame.loop = true;
    }
  }

  void leave() {
    Frame frame = frames_.back();
    if (frame.component) {
      order_.push_back(frame.block);
      frames_.pop_back();
      give_back(frame.head);
      return;
    }
    if (frame.head != number_[frame.block]) {
      frames_.pop_back();
      give_back(frame.head);
      return;
    }
    number_[frame.block] = kDone;
    std::uint32_t element = open_.back();
    open_.pop_back();
    if (!frame.loop) {
      order_.push_back(frame.block);
      frames_.pop_back();
      give_back(frame.head);
      return;
    }
    while (element != frame.block) {
      number_[element] = 0;
      element = open_.back();
      open_.pop_back();
    }
    frames_.back() = {frame.block, 0, frame.head, false, true};
  }

  void give_back(std::uint32_t head) {
    if (!frames_.empty() && !frames_.back().component) lower(frames_.back(), head);
  }

  const std::vector<std::vector<std::uint32_t>>& successors_;
  std::vector<std::uint32_t> number_, order_, open_;
  std::vector<Frame> frames_;
  std::uint32_t count_ = 0;
};

std::uint64_t align_up(std::uint64_t n, std::uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

bool calls_a_pointer(const SyntaxFunction& function) {
  return std::any_of(function.statements.begin(), function.statements.end(), [](const Statement& s) {
    return s.opcode == "call" && std::any_of(s.operands.begin(), s.operands.end(), [](const SyntaxOperand& o) {
             return o.kind == OperandKind::kRegister;
           });
  });
}

/// All that a kernel can reach, itself included.
std::set<SyntaxFunction*> reachable(SyntaxModule& module, SyntaxFunction& kernel,
                                    const std::vector<SyntaxFunction*>& address_taken) {
  std::set<SyntaxFunction*> seen{&kernel};
  std::vector<SyntaxFunction*> open{&kernel};
  const auto add = [&](SyntaxFunction* function) {
    if (function != nullptr && seen.insert(function).second) open.push_back(function);
  };
  while (!open.empty()) {
    SyntaxFunction* function = open.back();
    open.pop_back();
    for (const Symbol* callee : function->callees) add(definition_of(module, *callee));
    if (calls_a_pointer(*function)) {
      for (SyntaxFunction* taken : address_taken) add(taken);
    }
  }
  return seen;
}

}  // namespace

std::vector<std::uint32_t> weak_topological_order(const std::vector<std::vector<std::uint32_t>>& successors) {
  if (successors.empty()) return {};
  return Orderer(successors).run();
}

SyntaxFunction* definition_of(SyntaxModule& module, const Symbol& symbol) {
  SyntaxFunction* function = &module.functions[symbol.index];
  if (function->defined) return function;
  const auto alias = module.aliases.find(symbol.name);
  if (alias == module.aliases.end()) return nullptr;
  const auto target = module.names.find(alias->second);
  if (target == module.names.end() || target->second->kind != SymbolKind::kFunction) return nullptr;
  function = &module.functions[target->second->index];
  return function->defined ? function : nullptr;
}

/// Each variable lies at the lowest offset that is free in all kernels that can reach it.
void lay_out_shared(SyntaxModule& module) {
  std::vector<SyntaxFunction*> address_taken;
  for (const Variable& variable : module.variables) {
    for (const Variable::Relocation& relocation : variable.relocations) {
      const auto found = module.names.find(relocation.symbol);
      if (found == module.names.end() || found->second->kind != SymbolKind::kFunction) continue;
      if (SyntaxFunction* function = definition_of(module, *found->second)) address_taken.push_back(function);
    }
  }
  std::map<const Symbol*, std::vector<SyntaxFunction*>> users;
  for (SyntaxFunction& kernel : module.functions) {
    if (!kernel.kernel || !kernel.defined) continue;
    std::set<const Symbol*> used;
    for (const SyntaxFunction* function : reachable(module, kernel, address_taken)) {
      used.insert(function->shared_used.begin(), function->shared_used.end());
    }
    for (const Symbol* symbol : used) users[symbol].push_back(&kernel);
  }
  for (Symbol& symbol : module.symbols) {
    const auto found = users.find(&symbol);
    if (found == users.end()) continue;
    std::uint64_t offset = 0;
    for (const SyntaxFunction* kernel : found->second) {
      offset = std::max(offset, align_up(kernel->static_shared_bytes, symbol.alignment));
    }
    symbol.offset = offset;
    if (offset + symbol.bytes > (1u << 20)) throw SyntaxError{1, "Too much shared data"};
    for (SyntaxFunction* kernel : found->second) {
      kernel->static_shared_bytes = static_cast<std::uint32_t>(offset + symbol.bytes);
    }
  }
}

}  // namespace avec::cpu::ptx
