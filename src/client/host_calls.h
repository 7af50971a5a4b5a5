// Host nodes of graphs: the executor asks for a function while the device waits, and goes on when it has
// returned. They run on a thread of their own, one after another; it never holds the driver role.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <cuda.h>

namespace avec::client {

class Client;

/// The function of a host node.
struct NodeFunction {
  Client* client = nullptr;
  std::uint64_t name = 0;
  CUhostFn function = nullptr;  ///< null: `run` is ours
  void* data = nullptr;
  std::function<void()> run;
};

/// Makes a function known under a new name. It is found as long as somebody holds it.
std::shared_ptr<NodeFunction> make_host_function(Client& client, CUhostFn function, void* data);
std::shared_ptr<NodeFunction> make_host_function(Client& client, std::function<void()> run);
/// Null: nobody holds it any more.
std::shared_ptr<NodeFunction> find_host_function(Client& client, std::uint64_t name);
/// The function may still be asked for, by work that is under way, though nobody holds it.
void keep_host_function(std::shared_ptr<NodeFunction> function);

/// Runs it on the thread of host nodes.
void run_on_host(std::function<void()> run);

/// The executor asks. Called by the thread with the driver role: only notes it.
void host_call(Client& client, std::uint64_t call, std::uint64_t function);

}  // namespace avec::client
