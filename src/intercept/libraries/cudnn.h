// cuDNN on the client: what descriptors were set to, noted as far as the client must know it. Named in
// schemas/libraries/cudnn.api as checks (called before anything is sent, with the function's own
// arguments; what they answer other than 0 goes to the program) and as counts of bytes.
#pragma once

#include <cstdint>

#include "client/library_call.h"
#include "libraries/cudnn.h"
#include "libraries/cudnn_kinds.h"

namespace avec::libraries {

// Handles: LibraryObject::state[0] is the name of the stream that the executor's handle has.
// Tensors and filters: LibraryObject::state[0] is the data type + 1 (0: not known), state[1] the second
// dimension of a tensor (the batch of CTC's probabilities), the time steps of sequences.

/// Bytes of alpha or beta for a destination: a float, or a double where its data type is double.
std::uint64_t cudnn_scaling_bytes(const void* descriptor, const void* value) noexcept;
/// Bytes of one element of a tensor.
std::uint64_t cudnn_value_bytes(const void* descriptor, const void* value) noexcept;
/// Samples in CTC's probabilities, and their labels all together.
std::uint64_t cudnn_batch(const void* probabilities) noexcept;
std::uint64_t cudnn_labels(const void* probabilities, const std::int32_t* lengths) noexcept;
/// Time steps of a sequence: elements of attention's windows.
std::uint64_t cudnn_windows(const void* sequence) noexcept;

/// Notes the data type of a tensor, filter or sequence, and what stands in state[1].
int cudnn_note_type(client::LibraryObject* object, std::int32_t type, std::int64_t second) noexcept;
// These make the executor set a descriptor: it gets one of its own first.
int cudnn_own_folded(const void* handle, const void* filter, const void* diff, const void* convolution,
                     const void* gradient, std::int32_t format, const void* folded_filter,
                     const void* padded_diff, const void* folded_convolution, const void* folded_gradient,
                     const void*, const void*, const void*, const void*) noexcept;
int cudnn_own_weights(const void* handle, const void* attention, std::int32_t kind, std::uint64_t bytes,
                      void* weights, const void* tensor, void* address) noexcept;
int cudnn_note_derived(const void* derived, const void* tensor, std::int32_t mode) noexcept;
int cudnn_note_derived_pair(const void* first, const void* second, const void* tensor, std::int32_t mode,
                            std::int32_t groups) noexcept;
int cudnn_note_transformed(const void* transform, const void* source, const void* destination,
                           std::uint64_t* bytes) noexcept;
int cudnn_note_dropout(const void* dropout, const void* handle, float probability, void* states,
                       std::uint64_t bytes, std::uint64_t seed) noexcept;
int cudnn_note_rnn(const void* rnn, std::int32_t algo, std::int32_t cell, std::int32_t bias,
                   std::int32_t direction, std::int32_t input, std::int32_t type, std::int32_t precision,
                   std::int32_t math, std::int32_t input_size, std::int32_t hidden, std::int32_t projected,
                   std::int32_t layers, const void* dropout, std::uint32_t flags) noexcept;
/// Also decides everything that cuDNN refuses at once: the call is posted, for lengths change with each
/// batch.
int cudnn_note_rnn_data(const void* data, std::int32_t type, std::int32_t layout, std::int32_t steps,
                        std::int32_t batch, std::int32_t vector, const std::int32_t* lengths,
                        const void* fill) noexcept;
int cudnn_note_seq_data(const void* data, std::int32_t type, std::int32_t count, const std::int32_t* dims,
                        const std::int32_t* axes, std::uint64_t length_count, const std::int32_t* lengths,
                        const void* fill) noexcept;
int cudnn_note_attention(const void* attention, std::uint32_t mode, std::int32_t heads, double scaler,
                         std::int32_t type, std::int32_t precision, std::int32_t math, const void* dropout,
                         const void* post_dropout, std::int32_t q, std::int32_t k, std::int32_t v,
                         std::int32_t q_projected, std::int32_t k_projected, std::int32_t v_projected,
                         std::int32_t o_projected, std::int32_t qo_steps, std::int32_t kv_steps,
                         std::int32_t batch, std::int32_t beam) noexcept;
/// A handle, a recurrent network or an attention ends.
int cudnn_forget(const void* object) noexcept;

}  // namespace avec::libraries
