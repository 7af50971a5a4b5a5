// Host functions: the client runs them, and the stream waits meanwhile. The frame stays the first held
// one of its stream until the client says that its function has run; everything that orders held
// frames among each other orders this too.
#include "executor/worker/session.h"

namespace avec::worker {

struct HostTurn {
  bool over = false;  ///< the client has said so
};

Result<> Session::operator()(const Header& header, const wire::HostFunction& call) {
  if (call.function() == 0) return protocol_error("a host function without a name");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (replaying_ == nullptr) {
    if (host_turns_.size() >= limits::kMaxHostFunctions) return protocol_error("too many host functions");
    const auto [turn, fresh] = host_turns_.try_emplace(call.function());
    if (!fresh) return protocol_error("a host function's name that is taken");
    if (stream == nullptr) {
      host_turns_.erase(turn);
      tell_turn(call.function(), status);
      return {};
    }
    if (!hold(*stream)) keep(*stream, copy_of_frame());
    return {};
  }
  if (stream == nullptr) {  // destroyed with its context meanwhile
    if (replaying_->turn == nullptr) tell_turn(call.function(), status);
    host_turns_.erase(call.function());
    return {};
  }
  if (replaying_->turn == nullptr) {
    const auto found = host_turns_.find(call.function());
    if (found == host_turns_.end()) return finish(header, CUDA_SUCCESS);  // the client is leaving
    replaying_->turn = found->second = std::make_shared<HostTurn>();
    before_issue(*stream);
    // Work of other streams that comes before (the legacy stream, events) is waited for too.
    completions_.issued(*stream);
    completions_.then(*stream, [this, function = call.function()](CUresult done) { tell_turn(function, done); });
  }
  incomplete_ = !replaying_->turn->over;
  return {};
}

Result<> Session::operator()(const Header&, const wire::HostFunctionDone& call) {
  const auto found = host_turns_.find(call.function());
  if (found == host_turns_.end() || found->second == nullptr) return {};
  found->second->over = true;
  host_turns_.erase(found);
  return {};
}

void Session::tell_turn(std::uint64_t function, CUresult status) {
  poll_watches();
  downloads_.deliver_after([this, function, status] {
    const wire::HostFunctionDue body(function, status, 0);
    link_.push(wire::Opcode::HostFunctionDue, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(&body), sizeof body});
  });
}

void Session::end_host_functions() {
  for (auto& [function, turn] : host_turns_)
    if (turn != nullptr) turn->over = true;
  host_turns_.clear();
}

}  // namespace avec::worker
