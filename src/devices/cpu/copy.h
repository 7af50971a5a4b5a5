// Copies and sets of one, two and three dimensions, checked when they are asked for and again
// when they run: what they touch may have been freed in between.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "devices/cpu/device.h"

namespace avec::cpu {

enum class Place : std::uint8_t { kDevice, kHost, kUnified, kArray };

struct Side {
  Place place = Place::kUnified;
  std::uint64_t address = 0;
  std::uint64_t pitch = 0;  // bytes from row to row
  std::uint64_t slice = 0;  // bytes from layer to layer
  // Of kArray: which one and where, and what keeps its memory while the copy waits.
  CUarray handle = nullptr;
  std::uint64_t x = 0, y = 0, z = 0;
  std::shared_ptr<const void> array{};
};

struct Extent {
  std::uint64_t width = 0, height = 1, depth = 1;  // bytes, rows, layers
};

/// Works out a descriptor's sides; an empty extent leaves them as they are.
CUresult read_copy(const CUDA_MEMCPY3D& description, Side& destination, Side& source, Extent& extent);
/// A side of device memory, pinned memory included.
bool on_device(const Side& side);
/// May the sides be copied between, as far as can be seen now?
CUresult check_copy(const Context& context, const Side& destination, const Side& source,
                    const Extent& extent);
/// Copies on the calling thread. `staged` is what the source lies in, if that is not the application's.
std::function<CUresult()> copy_work(const ContextRef& context, const Side& destination, const Side& source,
                                    const Extent& extent, std::shared_ptr<std::vector<std::byte>> staged);
CUresult check_set(const Context& context, CUdeviceptr address, std::uint64_t pitch, unsigned element_bytes,
                   std::uint64_t width, std::uint64_t height);
std::function<CUresult()> set_work(const ContextRef& context, CUdeviceptr address, std::uint64_t pitch,
                                   std::uint32_t value, unsigned element_bytes, std::uint64_t width,
                                   std::uint64_t height);

/// `waits`: the form without Async. Waits where CUDA's "API synchronization behavior" says so.
CUresult copy(Side destination, Side source, Extent extent, CUstream stream, bool waits);

/// `height` rows of `width` elements of 1, 2 or 4 bytes, `pitch` bytes apart.
CUresult set(CUdeviceptr address, std::uint64_t pitch, std::uint32_t value, unsigned element_bytes,
             std::uint64_t width, std::uint64_t height, CUstream stream, bool waits);

/// Is [begin, begin + bytes) memory that the context's device may touch?
bool accessible(const Context& context, std::uint64_t begin, std::uint64_t bytes, bool write);

}  // namespace avec::cpu
