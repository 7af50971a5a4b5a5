// What the client knows of cuBLASLt's descriptors: the type of their scalars, and where those lie.
#pragma once

#include <cstdint>

namespace avec::libraries {

/// Bytes of alpha and beta of a matmul or transform descriptor.
std::uint64_t scale_bytes(const void* descriptor);
int check_matmul_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t bytes);
int note_matmul_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t bytes);
int check_transform_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t bytes);
int note_transform_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t bytes);

}  // namespace avec::libraries
