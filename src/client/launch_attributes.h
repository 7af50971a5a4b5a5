// Attributes of launches and streams, and clusters of blocks.
#pragma once

#include <cuda.h>

#include <span>
#include <vector>

namespace avec::client {

struct Function;
struct Stream;

/// An attribute as it goes on the wire: the value's bytes, a name in place of an event's handle.
struct LaunchAttributes {
  std::vector<CUlaunchAttribute> sent;
  std::vector<CUevent> events;  ///< that the launch records
  bool cooperative = false;
};

/// Checks what CUDA checks at once and makes the wire's form. Cooperative launches are told in
/// `cooperative`, not in `sent`.
CUresult read_attributes(std::span<const CUlaunchAttribute> attributes, Stream& stream, LaunchAttributes& out);

/// How many blocks a cluster may have (`active` false), or how many clusters run at once.
CUresult occupancy_clusters(int* clusters, CUfunction function, const CUlaunchConfig* config, bool active);

CUresult stream_get_attribute(CUstream stream, CUstreamAttrID which, CUstreamAttrValue* value);
CUresult stream_set_attribute(CUstream stream, CUstreamAttrID which, const CUstreamAttrValue* value);
CUresult stream_copy_attributes(CUstream to, CUstream from);

}  // namespace avec::client
