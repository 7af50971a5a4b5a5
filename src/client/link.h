// The linker (cuLink*). It runs on the executor: inputs go there by the hash of their content.
#pragma once

#include <cuda.h>

#include <cstddef>

#include "client/jit.h"

namespace avec::client {

CUresult link_create(CUlinkState* state, JitOptions options);
CUresult link_add_data(CUlinkState state, CUjitInputType type, const void* data, std::size_t bytes, const char* name,
                       JitOptions options);
CUresult link_add_file(CUlinkState state, CUjitInputType type, const char* path, JitOptions options);
/// The cubin stays until the link is destroyed.
CUresult link_complete(CUlinkState state, void** cubin, std::size_t* bytes);
CUresult link_destroy(CUlinkState state);

}  // namespace avec::client
