// Parameters of graph nodes between frames and the driver: what a frame says is checked against what
// the session owns before the driver sees it.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "base/result.h"
#include "calls.h"
#include "executor/worker/driver.h"

namespace avec::worker {

/// Takes structs off the front of a payload.
class PayloadReader {
 public:
  explicit PayloadReader(ConstBytes bytes) : bytes_(bytes) {}
  template <class T>
  bool take(T& value) {
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return true;
  }
  /// `count` structs; false when there are not as many.
  template <class T>
  bool take(std::vector<T>& values, std::uint64_t count) {
    if (count > bytes_.size() / sizeof(T)) return false;
    values.resize(count);
    if (count != 0) std::memcpy(values.data(), bytes_.data(), count * sizeof(T));
    bytes_ = bytes_.subspan(count * sizeof(T));
    return true;
  }
  ConstBytes rest() const { return bytes_; }

 private:
  ConstBytes bytes_;
};

/// Parameters for the driver, with the memory that they point to.
struct NodeParams {
  CUgraphNodeParams params{};
  std::vector<std::byte> buffer;  ///< a kernel's parameters
  std::vector<void*> pointers;
  std::vector<wire::GraphAttribute> attributes;
  std::vector<CUstreamBatchMemOpParams> operations;
  std::uint64_t first_graph = 0;  ///< of a conditional node
  std::uint64_t module = 0;       ///< of a kernel
  std::uint64_t event = 0;        ///< that an event record node records
  const std::vector<std::uint64_t>* child_events = nullptr;  ///< of a child graph
};

/// The attribute for the driver; false when its value may not be taken from a client.
bool to_driver(const wire::GraphAttribute& attribute, CUlaunchAttributeValue& value);
CUgraphEdgeData edge_data(const wire::GraphEdge& edge);
CUgraphEdgeData edge_data(const wire::GraphLink& link);

/// Appends the bytes of a struct.
template <class T>
void append(std::vector<std::byte>& to, const T& value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof value);
}

}  // namespace avec::worker
