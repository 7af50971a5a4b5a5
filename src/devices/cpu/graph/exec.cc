#include "devices/cpu/graph/exec.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>

#include "devices/cpu/copy.h"
#include "devices/cpu/graph/capture.h"
#include "devices/cpu/memory_ops.h"

namespace avec::cpu {

/// What a launch runs: steps in an order that respects all edges. Never changes.
struct Plan {
  struct Step {
    enum class Kind : std::uint8_t { kWork, kWaitMemory, kWaitEvent, kRecordEvent, kChild, kConditional };
    Kind kind = Kind::kWork;
    Work work;                    // kWork; empty: nothing to do
    std::function<bool()> ready;  // kWaitMemory
    std::shared_ptr<Event> event;
    unsigned slot = 0;  // of an event's completion in a launch
    std::shared_ptr<Condition> condition;
    CUgraphConditionalNodeType type = CU_GRAPH_COND_TYPE_IF;
    std::vector<std::shared_ptr<Plan>> bodies;
    std::vector<unsigned> next;
    unsigned before = 0;
  };
  std::vector<Step> steps;
  unsigned slots = 0;      // of the whole tree
  bool user_code = false;  // calls the application, or may wait for others
  std::vector<std::shared_ptr<Condition>> defaults;
};

namespace {

using Kind = Plan::Step::Kind;

/// Between two looks at what a graph's nodes wait for.
constexpr std::chrono::microseconds kPollInterval{50};

// ---- from a graph to a plan -------------------------------------------------------------

std::shared_ptr<Plan> make_plan(const Graph& graph, Plan& root);

Work work_of(const Params& params) {
  if (const auto* kernel = std::get_if<KernelParams>(&params)) {
    return kernel_work(kernel->module, kernel->function->index, kernel->shape, kernel->buffer);
  }
  if (const auto* copy = std::get_if<CopyParams>(&params)) {
    Side to, from;
    Extent extent;
    if (const auto error = read_copy(copy->copy, to, from, extent)) return [error] { return error; };
    return copy_work(copy->context, to, from, extent, nullptr);
  }
  if (const auto* set = std::get_if<SetParams>(&params)) {
    const auto& s = set->set;
    return set_work(set->context, s.dst, s.pitch, s.value, s.elementSize, s.width, s.height);
  }
  if (const auto* host = std::get_if<HostParams>(&params)) {
    return [function = host->function, user = host->user] {
      function(user);
      return CUDA_SUCCESS;
    };
  }
  return nullptr;  // memory nodes are looked after when a launch is made
}

/// One operation after another: each may have to wait.
unsigned add_batch(const BatchParams& batch, Plan& plan) {
  for (std::size_t i = 0; i < batch.operations.size(); ++i) {
    Plan::Step step;
    step.kind = Kind::kWaitMemory;
    step.ready = [context = batch.context, one = batch.operations[i]] {
      return memory_op_ready(*context, one);
    };
    step.work = [context = batch.context, one = batch.operations[i]] { return run_memory_op(*context, one); };
    if (i > 0) {
      step.before = 1;
      plan.steps.back().next.push_back(static_cast<unsigned>(plan.steps.size()));
    }
    plan.steps.push_back(std::move(step));
  }
  return static_cast<unsigned>(batch.operations.size());
}

/// Appends a node's steps and says how many there are.
unsigned add_steps(const Node& node, Plan& plan, Plan& root) {
  if (const auto* batch = std::get_if<BatchParams>(&node.params)) {
    root.user_code = true;
    return add_batch(*batch, plan);
  }
  Plan::Step step;
  if (node.enabled) step.work = work_of(node.params);
  if (std::holds_alternative<HostParams>(node.params)) root.user_code = true;
  if (const auto* wait = std::get_if<WaitParams>(&node.params)) {
    step.kind = Kind::kWaitEvent;
    step.event = wait->event;
    step.slot = root.slots++;
    root.user_code = true;
  } else if (const auto* record = std::get_if<RecordParams>(&node.params)) {
    step.kind = Kind::kRecordEvent;
    step.event = record->event;
    step.slot = root.slots++;
  } else if (const auto* child = std::get_if<ChildParams>(&node.params)) {
    step.kind = Kind::kChild;
    step.bodies = {make_plan(*child->graph, root)};
  } else if (const auto* conditional = std::get_if<ConditionalParams>(&node.params)) {
    step.kind = Kind::kConditional;
    step.condition = conditional->condition;
    step.type = conditional->type;
    for (const auto& body : conditional->bodies) step.bodies.push_back(make_plan(*body, root));
    if ((conditional->condition->flags & CU_GRAPH_COND_ASSIGN_DEFAULT) != 0) {
      root.defaults.push_back(conditional->condition);
    }
  }
  plan.steps.push_back(std::move(step));
  return 1;
}

void fill_plan(const Graph& graph, Plan& plan, Plan& root) {
  struct Place {
    unsigned first = 0, last = 0;
  };
  std::unordered_map<const Node*, Place> places;
  for (const Node* node : in_order(graph)) {
    const auto first = static_cast<unsigned>(plan.steps.size());
    const unsigned count = add_steps(*node, plan, root);
    places[node] = {first, first + count - 1};
    for (const auto& before : node->before) {
      plan.steps[places.at(before.node).last].next.push_back(first);
      ++plan.steps[first].before;
    }
  }
}

std::shared_ptr<Plan> make_plan(const Graph& graph, Plan& root) {
  auto plan = std::make_shared<Plan>();
  fill_plan(graph, *plan, root);
  return plan;
}

std::shared_ptr<const Plan> plan_of(Exec& exec) {
  if (!exec.plan) {
    auto plan = std::make_shared<Plan>();
    fill_plan(*exec.graph, *plan, *plan);
    exec.plan = std::move(plan);
  }
  return exec.plan;
}

// ---- one launch -------------------------------------------------------------------------

/// Reaches what its event nodes recorded, also when it is dropped before it could run.
struct Launch {
  std::shared_ptr<const Plan> plan;
  ExecRef exec;
  ContextRef context;
  std::vector<CompletionRef> marks;
  std::vector<unsigned> records;  // slots

  ~Launch() {
    for (const unsigned slot : records) {
      if (!marks[slot]->done.load()) state().scheduler.complete(marks[slot]);
    }
  }
  [[nodiscard]] bool stopped() const { return context->stop.load() || context->fault.load() != CUDA_SUCCESS; }
};

/// Gives the event nodes their completions, in the order in which they will run.
void take_events(const Plan& plan, const StreamRef& stream, Launch& launch) {
  for (const auto& step : plan.steps) {
    if (step.kind == Kind::kRecordEvent) {
      auto mark = std::make_shared<Completion>();
      launch.marks[step.slot] = mark;
      launch.records.push_back(step.slot);
      const std::lock_guard lock(step.event->mutex);
      step.event->recorded = std::move(mark);
      step.event->stream = stream;
      step.event->capture = nullptr;
    } else if (step.kind == Kind::kWaitEvent) {
      const std::lock_guard lock(step.event->mutex);
      launch.marks[step.slot] = step.event->recorded;
    }
    for (const auto& body : step.bodies) take_events(*body, stream, launch);
  }
}

CUresult run_plan(const Plan& plan, Launch& launch);

CUresult run_conditional(const Plan::Step& step, Launch& launch) {
  const auto value = [&] { return step.condition->value.load(std::memory_order_acquire); };
  switch (step.type) {
    case CU_GRAPH_COND_TYPE_WHILE:
      while (value() != 0 && !launch.stopped()) {
        if (const auto error = run_plan(*step.bodies[0], launch)) return error;
      }
      return CUDA_SUCCESS;
    case CU_GRAPH_COND_TYPE_IF:
      if (value() != 0) return run_plan(*step.bodies[0], launch);
      return step.bodies.size() > 1 ? run_plan(*step.bodies[1], launch) : CUDA_SUCCESS;
    default:
      return value() < step.bodies.size() ? run_plan(*step.bodies[value()], launch) : CUDA_SUCCESS;
  }
}

bool step_ready(const Plan::Step& step, const Launch& launch) {
  if (step.kind == Kind::kWaitMemory) return step.ready();
  if (step.kind != Kind::kWaitEvent) return true;
  const auto& mark = launch.marks[step.slot];
  return !mark || mark->done.load(std::memory_order_acquire);
}

CUresult run_step(const Plan::Step& step, Launch& launch) {
  switch (step.kind) {
    case Kind::kRecordEvent:
      state().scheduler.complete(launch.marks[step.slot]);
      return CUDA_SUCCESS;
    case Kind::kChild:
      return run_plan(*step.bodies[0], launch);
    case Kind::kConditional:
      return run_conditional(step, launch);
    default:
      return step.work ? step.work() : CUDA_SUCCESS;
  }
}

/// Runs all steps, each after those before it; those that wait let others go ahead.
CUresult run_plan(const Plan& plan, Launch& launch) {
  std::vector<unsigned> missing;
  std::deque<unsigned> ready;
  for (unsigned i = 0; i < plan.steps.size(); ++i) {
    missing.push_back(plan.steps[i].before);
    if (plan.steps[i].before == 0) ready.push_back(i);
  }
  std::size_t waiting = 0;  // in a row, without one that could run
  while (!ready.empty() && !launch.stopped()) {
    const unsigned index = ready.front();
    ready.pop_front();
    const auto& step = plan.steps[index];
    if (!step_ready(step, launch)) {
      ready.push_back(index);
      if (++waiting < ready.size()) continue;
      waiting = 0;
      std::this_thread::sleep_for(kPollInterval);
      continue;
    }
    waiting = 0;
    if (const auto error = run_step(step, launch)) return error;
    for (const unsigned next : step.next) {
      if (--missing[next] == 0) ready.push_back(next);
    }
  }
  return CUDA_SUCCESS;
}

// ---- memory of allocation nodes ---------------------------------------------------------

template <class Visit>
void each_node(const Graph& graph, const Visit& visit) {
  for (const auto& node : graph.nodes) {
    visit(*node);
    if (const auto* child = std::get_if<ChildParams>(&node->params)) each_node(*child->graph, visit);
    if (const auto* conditional = std::get_if<ConditionalParams>(&node->params)) {
      for (const auto& body : conditional->bodies) each_node(*body, visit);
    }
  }
}

/// What a launch allocates and frees, as later calls see it; an error changes nothing.
CUresult account_memory(const Exec& exec) {
  std::vector<GraphMemoryRef> allocated, freed;
  each_node(*exec.graph, [&](const Node& node) {
    if (const auto* alloc = std::get_if<AllocParams>(&node.params)) allocated.push_back(alloc->memory);
    if (const auto* free = std::get_if<FreeParams>(&node.params)) freed.push_back(free->memory);
  });
  const bool auto_free = (exec.flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0;
  const auto contains = [](const auto& all, const GraphMemoryRef& one) {
    return std::ranges::find(all, one) != all.end();
  };
  for (const auto& memory : allocated) {
    if (memory->live && !auto_free) return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& memory : freed) {
    if (!contains(allocated, memory) && !memory->live) return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& memory : allocated) set_live(memory, !contains(freed, memory));
  for (const auto& memory : freed) set_live(memory, false);
  return CUDA_SUCCESS;
}

void name_nodes(const Graph& graph, Exec& exec) {
  each_node(graph, [&](const Node& node) { exec.nodes[node.origin] = const_cast<Node*>(&node); });
}

/// A node of a cycle, in this graph or one inside; null: there is none.
const Node* in_cycle(const Graph& graph) {
  const auto order = in_order(graph);
  if (order.size() != graph.nodes.size()) {
    for (const auto& node : graph.nodes) {
      if (std::ranges::find(order, node.get()) == order.end()) return node.get();
    }
  }
  const Node* found = nullptr;
  for (const auto& node : graph.nodes) {
    if (const auto* child = std::get_if<ChildParams>(&node->params)) found = in_cycle(*child->graph);
    if (const auto* conditional = std::get_if<ConditionalParams>(&node->params)) {
      for (const auto& body : conditional->bodies) found = found != nullptr ? found : in_cycle(*body);
    }
    if (found != nullptr) return found;
  }
  return nullptr;
}

/// What may not be in the body of a conditional node; null: nothing.
const Node* bad_in_body(const Graph& graph, bool inside) {
  for (const auto& node : graph.nodes) {
    const auto* conditional = std::get_if<ConditionalParams>(&node->params);
    const auto* child = std::get_if<ChildParams>(&node->params);
    if (inside) {
      switch (node->type()) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
        case CU_GRAPH_NODE_TYPE_EMPTY:
        case CU_GRAPH_NODE_TYPE_GRAPH:
        case CU_GRAPH_NODE_TYPE_MEMSET:
        case CU_GRAPH_NODE_TYPE_MEMCPY:
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
          break;
        default:
          return node.get();
      }
    }
    const Node* bad = child != nullptr ? bad_in_body(*child->graph, inside) : nullptr;
    if (conditional != nullptr) {
      for (const auto& body : conditional->bodies) bad = bad != nullptr ? bad : bad_in_body(*body, true);
    }
    if (bad != nullptr) return bad;
  }
  return nullptr;
}

bool needs_single_exec(const Graph& graph) { return graph.has_memory || has_conditional(graph); }

}  // namespace

CUresult instantiate_graph(const GraphRef& graph, std::uint64_t flags, ExecRef& exec, CUgraphNode& bad,
                           CUgraphInstantiateResult& result) {
  bad = nullptr;
  result = CUDA_GRAPH_INSTANTIATE_ERROR;
  constexpr std::uint64_t kKnown =
      CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
      CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
  if ((flags & ~kKnown) != 0 || graph->capturing || graph->parent != nullptr || graph->moved) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) {
    if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0) return CUDA_ERROR_INVALID_VALUE;
    return CUDA_ERROR_NOT_SUPPORTED;  // kernels here cannot launch graphs
  }
  if (const Node* node = in_cycle(*graph)) {
    result = CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
    bad = handle_of(*node);
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const Node* node = bad_in_body(*graph, graph->conditional_body)) {
    result = CUDA_GRAPH_INSTANTIATE_NODE_OPERATION_NOT_SUPPORTED;
    bad = handle_of(*node);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  for (const auto& condition : graph->conditions) {
    if (condition->used) continue;
    result = CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED;
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (needs_single_exec(*graph) && !graph->exec.expired()) return CUDA_ERROR_NOT_SUPPORTED;
  exec = std::make_shared<Exec>();
  exec->graph = copy_graph(*graph, false);
  // As an H100 tells them: priorities are no flag of what was made.
  exec->flags = flags & ~static_cast<std::uint64_t>(CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                                                    CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY);
  name_nodes(*exec->graph, *exec);
  graph_tables().execs.add(exec);
  exec->source = graph;
  graph->exec = exec;
  result = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return CUDA_SUCCESS;
}

Node* exec_node(const Exec& exec, CUgraphNode handle) {
  // The node must still be in the graph that the executable one was made of.
  if (!node_of(handle)) return nullptr;
  const auto found = exec.nodes.find(reinterpret_cast<std::uintptr_t>(handle));
  return found == exec.nodes.end() ? nullptr : found->second;
}

CUresult launch_exec(const ExecRef& exec, const StreamRef& stream) {
  if (const auto error = refuse_capture(stream)) return error;  // a launch is no node
  const GraphLock lock(graph_mutex());
  if (const auto error = account_memory(*exec)) return error;
  auto launch = std::make_shared<Launch>();
  launch->plan = plan_of(*exec);
  launch->exec = exec;
  launch->context = stream->context;
  launch->marks.resize(launch->plan->slots);
  take_events(*launch->plan, stream, *launch);
  Task task;
  task.user_code = launch->plan->user_code;
  if (exec->last && !exec->last->done.load()) task.after.push_back(exec->last);
  task.run = [launch = std::move(launch)](CUresult) {
    for (const auto& condition : launch->plan->defaults) condition->value = condition->default_value;
    return run_plan(*launch->plan, *launch);
  };
  exec->last = state().scheduler.enqueue(stream, std::move(task));
  return CUDA_SUCCESS;
}

}  // namespace avec::cpu
