// cuDNN on the client: notes of what descriptors were set to, and the functions answered from them.
#include "intercept/libraries/cudnn.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "client/stream.h"
#include "intercept/libraries/cudnn_graph.h"
#include "intercept/libraries/cudnn_shim.h"
#include "intercept/libraries/cudnn_values.h"

namespace avec::libraries {
namespace {

using client::find_library_object;
using client::LibraryObject;
using namespace cudnn;

constexpr std::uint64_t kMaxBatch = 1u << 20, kMaxLabels = 1u << 21;

LibraryObject* tensor_or_filter(const void* descriptor) {
  LibraryObject* found = find_library_object(descriptor, kCudnnTensor);
  return found != nullptr ? found : find_library_object(descriptor, kCudnnFilter);
}

/// Bytes at an address that are there for sure, when the type is not known.
std::uint64_t readable(const void* value) { return reinterpret_cast<std::uintptr_t>(value) % 8 == 0 ? 8 : 4; }

/// Data types of sequences: float, double, half, bfloat16.
bool floating(std::int32_t type) { return type == 0 || type == 1 || type == 2 || type == 9; }

/// What cudnnSetRNNDescriptor_v8 and cudnnSetAttnDescriptor said, for their sisters that get it.
template <class Note>
class Notes {
 public:
  void keep(const void* object, const Note& note) {
    std::scoped_lock lock(mutex_);
    notes_.insert_or_assign(object, note);
  }
  bool find(const void* object, Note& note) {
    std::scoped_lock lock(mutex_);
    const auto at = notes_.find(object);
    if (at != notes_.end()) note = at->second;
    return at != notes_.end();
  }
  void forget(const void* object) {
    std::scoped_lock lock(mutex_);
    notes_.erase(object);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<const void*, Note> notes_;
};

struct RnnNote {
  std::array<std::int32_t, 12> values;
  const void* dropout;
  std::uint32_t flags;
};
struct AttentionNote {
  std::uint32_t mode;
  std::int32_t heads;
  double scaler;
  std::array<std::int32_t, 3> types;
  const void *dropout, *post_dropout;
  std::array<std::int32_t, 11> sizes;
};

Notes<RnnNote>& rnn_notes() {
  static auto& instance = *new Notes<RnnNote>;  // outlives static destructors
  return instance;
}
Notes<AttentionNote>& attention_notes() {
  static auto& instance = *new Notes<AttentionNote>;
  return instance;
}

template <class T>
void give(T* to, T value) {
  if (to != nullptr) *to = value;
}

}  // namespace

std::uint64_t cudnn_scaling_bytes(const void* descriptor, const void* value) noexcept {
  const LibraryObject* found = tensor_or_filter(descriptor);
  if (found == nullptr || found->state[0] == 0) return readable(value);
  return found->state[0] == 1 + 1 ? 8 : 4;  // CUDNN_DATA_DOUBLE is 1
}

std::uint64_t cudnn_value_bytes(const void* descriptor, const void* value) noexcept {
  const LibraryObject* found = tensor_or_filter(descriptor);
  const std::uint64_t bytes =
      found == nullptr || found->state[0] == 0 ? 0 : cudnn_type_bytes(static_cast<int>(found->state[0]) - 1);
  return bytes == 0 ? readable(value) : bytes;
}

std::uint64_t cudnn_batch(const void* probabilities) noexcept {
  const LibraryObject* found = find_library_object(probabilities, kCudnnTensor);
  return found == nullptr ? 0 : std::min(found->state[1], kMaxBatch);
}

std::uint64_t cudnn_labels(const void* probabilities, const std::int32_t* lengths) noexcept {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0, n = lengths == nullptr ? 0 : cudnn_batch(probabilities); i < n; ++i)
    sum += lengths[i] < 0 ? 0 : static_cast<std::uint64_t>(lengths[i]);
  return std::min(sum, kMaxLabels);
}

std::uint64_t cudnn_windows(const void* sequence) noexcept {
  const LibraryObject* found = find_library_object(sequence, kCudnnSeqdata);
  return found == nullptr ? 0 : found->state[1];
}

int cudnn_note_type(LibraryObject* object, std::int32_t type, std::int64_t second) noexcept {
  if (object == nullptr) return kSuccess;  // the call itself says what is wrong with the handle
  object->state[0] = type < 0 ? 0 : static_cast<std::uint64_t>(type) + 1;
  object->state[1] = second < 0 ? 0 : static_cast<std::uint64_t>(second);
  return kSuccess;
}

/// Parameters of a normalisation are float, or double for tensors of double.
int cudnn_note_derived(const void* derived, const void* tensor, std::int32_t) noexcept {
  if (const int status = own_tensor(derived); status != kSuccess) return status;
  const LibraryObject* from = find_library_object(tensor, kCudnnTensor);
  if (from == nullptr || from->state[0] == 0) return kSuccess;
  return cudnn_note_type(find_library_object(derived, kCudnnTensor), from->state[0] == 2 ? 1 : 0,
                         static_cast<std::int64_t>(from->state[1]));
}
int cudnn_note_derived_pair(const void* first, const void* second, const void* tensor, std::int32_t mode,
                            std::int32_t) noexcept {
  const int status = cudnn_note_derived(first, tensor, mode);
  return status == kSuccess ? cudnn_note_derived(second, tensor, mode) : status;
}
int cudnn_note_transformed(const void*, const void* source, const void* destination,
                           std::uint64_t*) noexcept {
  if (const int status = own_tensor(destination); status != kSuccess) return status;
  const LibraryObject* from = find_library_object(source, kCudnnTensor);
  return from == nullptr ? kSuccess
                         : cudnn_note_type(find_library_object(destination, kCudnnTensor),
                                           static_cast<std::int32_t>(from->state[0]) - 1, 0);
}
int cudnn_own_folded(const void*, const void*, const void*, const void*, const void*, std::int32_t,
                     const void* folded_filter, const void* padded_diff, const void*,
                     const void* folded_gradient, const void*, const void*, const void*,
                     const void*) noexcept {
  int status = own_filter(folded_filter);
  if (status == kSuccess) status = own_tensor(padded_diff);
  return status == kSuccess ? own_tensor(folded_gradient) : status;
}
int cudnn_own_weights(const void*, const void*, std::int32_t, std::uint64_t, void*, const void* tensor,
                      void*) noexcept {
  return own_tensor(tensor);
}

int cudnn_note_dropout(const void* dropout, const void*, float probability, void* states, std::uint64_t,
                       std::uint64_t seed) noexcept {
  LibraryObject* found = find_library_object(dropout, kCudnnDropout);
  if (found == nullptr) return kSuccess;
  std::uint32_t bits;
  std::memcpy(&bits, &probability, sizeof bits);
  found->state = {1, bits, reinterpret_cast<std::uintptr_t>(states), seed};
  return kSuccess;
}

int cudnn_note_rnn(const void* rnn, std::int32_t algo, std::int32_t cell, std::int32_t bias,
                   std::int32_t direction, std::int32_t input, std::int32_t type, std::int32_t precision,
                   std::int32_t math, std::int32_t input_size, std::int32_t hidden, std::int32_t projected,
                   std::int32_t layers, const void* dropout, std::uint32_t flags) noexcept {
  if (find_library_object(rnn, kCudnnRnn) == nullptr) return kSuccess;
  rnn_notes().keep(rnn, {{algo, cell, bias, direction, input, type, precision, math, input_size, hidden,
                          projected, layers},
                         dropout,
                         flags});
  return kSuccess;
}

int cudnn_note_rnn_data(const void* data, std::int32_t type, std::int32_t layout, std::int32_t steps,
                        std::int32_t batch, std::int32_t vector, const std::int32_t* lengths,
                        const void*) noexcept {
  if (layout < 0 || layout > 2 || steps <= 0 || batch <= 0 || vector <= 0 || lengths == nullptr)
    return kBadParam;
  if (static_cast<std::uint64_t>(batch) > kMaxBatch || !floating(type)) return kNotSupported;
  for (std::int32_t i = 0; i < batch; ++i)
    if (lengths[i] < 0 || lengths[i] > steps) return kBadParam;
  return cudnn_note_type(find_library_object(data, kCudnnRnndata), type, steps);
}

int cudnn_note_seq_data(const void* data, std::int32_t type, std::int32_t count, const std::int32_t* dims,
                        const std::int32_t* axes, std::uint64_t length_count, const std::int32_t* lengths,
                        const void*) noexcept {
  constexpr std::int32_t kAxes = 4;  // CUDNN_SEQDATA_DIM_COUNT; time is axis 0, batch 1, beam 2
  if (count != kAxes || dims == nullptr || axes == nullptr || length_count > kMaxBatch ||
      (lengths == nullptr && length_count != 0))
    return kBadParam;
  if (!floating(type)) return kNotSupported;
  for (std::int32_t axis = 0; axis < kAxes; ++axis)
    if (dims[axis] <= 0 || std::count(axes, axes + kAxes, axis) != 1) return kBadParam;
  for (std::uint64_t i = 0; i < length_count; ++i)
    if (lengths[i] < 0 || lengths[i] > dims[0]) return kBadParam;
  return cudnn_note_type(find_library_object(data, kCudnnSeqdata), type, dims[0]);
}

int cudnn_note_attention(const void* attention, std::uint32_t mode, std::int32_t heads, double scaler,
                         std::int32_t type, std::int32_t precision, std::int32_t math, const void* dropout,
                         const void* post_dropout, std::int32_t q, std::int32_t k, std::int32_t v,
                         std::int32_t q_projected, std::int32_t k_projected, std::int32_t v_projected,
                         std::int32_t o_projected, std::int32_t qo_steps, std::int32_t kv_steps,
                         std::int32_t batch, std::int32_t beam) noexcept {
  if (find_library_object(attention, kCudnnAttention) == nullptr) return kSuccess;
  attention_notes().keep(attention, {mode,
                                     heads,
                                     scaler,
                                     {type, precision, math},
                                     dropout,
                                     post_dropout,
                                     {q, k, v, q_projected, k_projected, v_projected, o_projected, qo_steps,
                                      kv_steps, batch, beam}});
  return kSuccess;
}

int cudnn_forget(const void* object) noexcept {
  rnn_notes().forget(object);
  attention_notes().forget(object);
  graph_api().forget_handle(object);
  return kSuccess;
}

}  // namespace avec::libraries

using namespace avec;
using namespace avec::libraries;
using namespace avec::libraries::cudnn;

extern "C" {

/// Frameworks set the stream before each operation: only another one is told.
int cudnnSetStream(const void* handle, void* stream) {
  client::LibraryObject* found = client::find_library_object(handle, kCudnnCudnn);
  if (found == nullptr) return kBadParam;
  client::Stream* now = nullptr;
  if (client::resolve_stream(static_cast<CUstream>(stream), now) == CUDA_SUCCESS && found->stream == stream &&
      found->state[0] == now->name)
    return kSuccess;
  const int status = avecCudnnSetStream(handle, stream);
  if (status != kSuccess) return status;
  // A stream's name is never used again, unlike its handle.
  found->state[0] = now == nullptr ? 0 : now->name;
  return kSuccess;
}

int cudnnGetStream(const void* handle, void** stream) {
  const client::LibraryObject* found = client::find_library_object(handle, kCudnnCudnn);
  if (found == nullptr || stream == nullptr) return kBadParam;
  *stream = found->stream;
  return kSuccess;
}

int cudnnGetDropoutDescriptor(const void* dropout, const void*, float* probability, void** states,
                              unsigned long long* seed) {
  const client::LibraryObject* found = client::find_library_object(dropout, kCudnnDropout);
  if (found == nullptr || found->state[0] == 0) return kBadParam;
  const auto bits = static_cast<std::uint32_t>(found->state[1]);
  if (probability != nullptr) std::memcpy(probability, &bits, sizeof bits);
  if (states != nullptr) *states = reinterpret_cast<void*>(static_cast<std::uintptr_t>(found->state[2]));
  if (seed != nullptr) *seed = found->state[3];
  return kSuccess;
}

int cudnnGetRNNDescriptor_v8(const void* rnn, int* algo, int* cell, int* bias, int* direction, int* input,
                             int* type, int* precision, int* math, std::int32_t* input_size,
                             std::int32_t* hidden, std::int32_t* projected, std::int32_t* layers,
                             const void** dropout, std::uint32_t* flags) {
  RnnNote note;
  if (!rnn_notes().find(rnn, note)) return kBadParam;
  int* const to[] = {algo,      cell, bias,       direction, input,     type,
                     precision, math, input_size, hidden,    projected, layers};
  for (std::size_t i = 0; i < note.values.size(); ++i) give(to[i], note.values[i]);
  give(dropout, note.dropout);
  give(flags, note.flags);
  return kSuccess;
}

int cudnnGetAttnDescriptor(const void* attention, unsigned* mode, int* heads, double* scaler, int* type,
                           int* precision, int* math, const void** dropout, const void** post_dropout, int* q,
                           int* k, int* v, int* q_projected, int* k_projected, int* v_projected,
                           int* o_projected, int* qo_steps, int* kv_steps, int* batch, int* beam) {
  AttentionNote note;
  if (!attention_notes().find(attention, note)) return kBadParam;
  give(mode, note.mode);
  give(heads, note.heads);
  give(scaler, note.scaler);
  int* const types[] = {type, precision, math};
  for (std::size_t i = 0; i < note.types.size(); ++i) give(types[i], note.types[i]);
  give(dropout, note.dropout);
  give(post_dropout, note.post_dropout);
  int* const sizes[] = {q,           k,        v,        q_projected, k_projected, v_projected,
                        o_projected, qo_steps, kv_steps, batch,       beam};
  for (std::size_t i = 0; i < note.sizes.size(); ++i) give(sizes[i], note.sizes[i]);
  return kSuccess;
}

int cudnnGetRNNDataDescriptor(const void* data, int* type, int* layout, int* steps, int* batch, int* vector,
                              int requested, int* lengths, void* fill) {
  std::array<std::byte, kCudnnValueBytes> value{};
  std::int32_t found_type = 0;
  const int status = avecCudnnGetRNNData(data, &found_type, layout, steps, batch, vector, requested, lengths,
                                         fill == nullptr ? nullptr : value.data());
  if (status != kSuccess) return status;
  give(type, found_type);
  if (fill != nullptr)
    std::memcpy(fill, value.data(), std::min(cudnn_type_bytes(found_type), kCudnnValueBytes));
  return kSuccess;
}

int cudnnGetSeqDataDescriptor(const void* data, int* type, int* count, int requested, int* dims, int* axes,
                              std::size_t* length_count, std::size_t lengths_requested, int* lengths,
                              void* fill) {
  std::array<std::byte, kCudnnValueBytes> value{};
  std::int32_t found_type = 0;
  std::uint64_t found_count = 0;
  const int status =
      avecCudnnGetSeqData(data, &found_type, count, requested, dims, axes, &found_count, lengths_requested,
                          lengths, fill == nullptr ? nullptr : value.data());
  if (status != kSuccess) return status;
  give(type, found_type);
  give(length_count, static_cast<std::size_t>(found_count));
  if (fill != nullptr)
    std::memcpy(fill, value.data(), std::min(cudnn_type_bytes(found_type), kCudnnValueBytes));
  return kSuccess;
}

/// Where a matrix lies depends on the network alone, so it is asked once; the descriptors are set as any
/// other.
int cudnnGetRNNWeightParams(const void* handle, const void* rnn, std::int32_t layer, std::size_t bytes,
                            const void* weights, std::int32_t linear, const void* matrix,
                            void** matrix_address, const void* bias, void** bias_address) {
  std::array<std::int64_t, 2> offsets{};
  std::array<std::int32_t, 2 * kCudnnShapeWords> shapes{};
  int status = avecCudnnWeightParams(handle, rnn, layer, bytes, linear, offsets.data(), shapes.data());
  const void* const descriptors[] = {matrix, bias};
  void** const addresses[] = {matrix_address, bias_address};
  for (std::size_t i = 0; i < 2 && status == kSuccess; ++i) {
    const std::int32_t* shape = shapes.data() + i * kCudnnShapeWords;
    if (addresses[i] != nullptr)
      *addresses[i] =
          offsets[i] < 0 ? nullptr : const_cast<char*>(static_cast<const char*>(weights)) + offsets[i];
    if (descriptors[i] == nullptr || shape[1] <= 0 || shape[1] > kCudnnShapeDims) continue;
    status = cudnnSetTensorNdDescriptor(descriptors[i], shape[0], shape[1], shape + 2,
                                        shape + 2 + kCudnnShapeDims);
  }
  return status;
}

}  // extern "C"
