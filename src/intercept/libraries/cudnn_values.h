// Tensor and filter descriptors of cuDNN's legacy API are values: what they were set to is all there is to
// them. Frameworks make, set and destroy some for each operation, so those of the same content are one
// descriptor on the executor: making one again costs neither a wait nor a byte.
#pragma once

namespace avec::libraries::cudnn {

/// Gives a descriptor one of its own on the executor, for a call that makes cuDNN set it. A status.
int own_tensor(const void* tensor) noexcept;
int own_filter(const void* filter) noexcept;

}  // namespace avec::libraries::cudnn
