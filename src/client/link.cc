#include "client/link.h"

#include <chrono>
#include <fstream>
#include <iterator>
#include <mutex>
#include <span>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/slab.h"
#include "client/status.h"
#include "fatbin/fatbin.h"
#include "session/session.h"
#include "wire/crypto.h"

namespace avec::client {
namespace {

/// A CUlinkState is the address of one (Slab<Link>).
struct Link {
  Context* context = nullptr;
  std::uint64_t context_name = 0;
  std::uint64_t name = 0;
  LogBuffers logs;  // the application keeps them until it destroys the link
  std::chrono::steady_clock::duration spent{};
  std::mutex mutex;  // one call at a time
  std::vector<std::byte> cubin;
};

CUresult find_link(CUlinkState handle, Link*& link) {
  link = Slab<Link>::find(handle);
  if (link == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const int sticky = link->context->error.load(); sticky != CUDA_SUCCESS) return static_cast<CUresult>(sticky);
  return link->context->name.load() == link->context_name ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

std::string_view text_of(const flatbuffers::String* text) {
  return text != nullptr ? text->string_view() : std::string_view();
}

/// Fills the application's buffers; the call's own result.
template <class Reply>
CUresult take(Link& link, const Reply& reply, std::chrono::steady_clock::time_point since) {
  link.spent += std::chrono::steady_clock::now() - since;
  link.logs.error.write(text_of(reply.error_log()));
  link.logs.info.write(text_of(reply.info_log()));
  if (link.logs.wall_time != nullptr)
    *link.logs.wall_time = std::chrono::duration<float, std::milli>(link.spent).count();
  return static_cast<CUresult>(reply.status());
}

CUresult add(Link& link, CUjitInputType type, std::span<const std::byte> input, const char* name, JitOptions options) {
  const auto hash = wire::content_hash(input);
  if (!hash) return CUDA_ERROR_OPERATING_SYSTEM;
  const NumericOptions numbers = numeric_options(options);
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString(name != nullptr ? name : "");
  const auto wire_options = builder.CreateVector(numbers.options);
  const auto values = builder.CreateVector(numbers.values);
  builder.Finish(
      wire::CreateLinkAdd(builder, link.name, type, &*hash, input.size(), text, wire_options, values));
  session::Session& session = link.context->client->session();
  const auto since = std::chrono::steady_clock::now();
  auto reply = session.call<wire::LinkAdd>(builder);
  if (reply && (*reply)->needs_image()) {
    if (auto sent = session.post(wire::ModuleImage(*hash), input); !sent) return to_cuda(sent.error());
    reply = session.call<wire::LinkAdd>(builder);
  }
  if (!reply) return to_cuda(reply.error());
  if ((*reply)->needs_image()) return CUDA_ERROR_DEVICE_UNAVAILABLE;  // it lost what it was sent
  return take(link, **reply, since);
}

bool is_input(CUjitInputType type) {
  return static_cast<int>(type) >= 0 && static_cast<int>(type) < CU_JIT_NUM_INPUT_TYPES;
}

}  // namespace

CUresult link_create(CUlinkState* handle, JitOptions options) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check_options(options); result != CUDA_SUCCESS) return result;
  Link* link = Slab<Link>::make();
  if (link == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  link->context = context;
  link->context_name = context->name.load();
  link->name = context->client->mint();
  link->logs = log_buffers(options);
  link->logs.error.write("");
  link->logs.info.write("");
  const NumericOptions numbers = numeric_options(options);
  flatbuffers::FlatBufferBuilder builder;
  const auto wire_options = builder.CreateVector(numbers.options);
  const auto values = builder.CreateVector(numbers.values);
  builder.Finish(wire::CreateLinkCreate(builder, link->name, link->context_name, wire_options, values));
  const CUresult result = to_cuda(context->client->session().call<wire::LinkCreate>(builder));
  if (result != CUDA_SUCCESS) {
    Slab<Link>::destroy(link);
    return result;
  }
  *handle = reinterpret_cast<CUlinkState>(link);
  return CUDA_SUCCESS;
}

CUresult link_add_data(CUlinkState handle, CUjitInputType type, const void* data, std::size_t bytes, const char* name,
                       JitOptions options) {
  Link* link;
  if (const CUresult result = find_link(handle, link); result != CUDA_SUCCESS) return result;
  if (data == nullptr || bytes == 0 || bytes > limits::kMaxImageBytes || !is_input(type)) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = check_options(options); result != CUDA_SUCCESS) return result;
  std::span<const std::byte> input{static_cast<const std::byte*>(data), bytes};
  std::vector<std::byte> copy;
  if (type == CU_JIT_INPUT_PTX && input.back() != std::byte{0}) {
    copy.assign(input.begin(), input.end());
    copy.push_back(std::byte{0});
    input = copy;
  }
  std::scoped_lock lock(link->mutex);
  if (!link->cubin.empty()) return CUDA_ERROR_INVALID_VALUE;  // it is complete
  if (type == CU_JIT_INPUT_FATBINARY && fatbin::image_kind(input) == fatbin::ImageKind::kContainer) {
    // What is for other devices stays here.
    const auto capability = static_cast<unsigned>(link->context->device->compute_capability());
    auto filtered = fatbin::filter(input, capability / 10, capability % 10);
    if (!filtered) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    copy.assign(filtered->begin(), filtered->end());
    input = copy;
  }
  return add(*link, type, input, name, options);
}

CUresult link_add_file(CUlinkState handle, CUjitInputType type, const char* path, JitOptions options) {
  Link* link;
  if (const CUresult result = find_link(handle, link); result != CUDA_SUCCESS) return result;
  if (path == nullptr || !is_input(type)) return CUDA_ERROR_INVALID_VALUE;
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (bytes.empty()) return CUDA_ERROR_INVALID_IMAGE;
  return link_add_data(handle, type, bytes.data(), bytes.size(), path, options);
}

CUresult link_complete(CUlinkState handle, void** cubin, std::size_t* bytes) {
  Link* link;
  if (const CUresult result = find_link(handle, link); result != CUDA_SUCCESS) return result;
  if (cubin == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(link->mutex);
  std::uint64_t whole = 0;
  do {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(wire::CreateLinkComplete(builder, link->name, link->cubin.size()));
    const auto since = std::chrono::steady_clock::now();
    const auto reply = link->context->client->session().call<wire::LinkComplete>(builder);
    if (!reply) return to_cuda(reply.error());
    if (const CUresult result = take(*link, **reply, since); result != CUDA_SUCCESS) return result;
    whole = (*reply)->cubin_bytes();
    const auto* piece = (*reply)->cubin();
    if (whole > limits::kMaxImageBytes || link->cubin.size() > whole) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    if (link->cubin.size() == whole) break;
    if (piece == nullptr || piece->size() == 0) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    const auto* first = reinterpret_cast<const std::byte*>(piece->data());
    link->cubin.insert(link->cubin.end(), first, first + piece->size());
  } while (link->cubin.size() < whole);
  *cubin = link->cubin.data();
  if (bytes != nullptr) *bytes = link->cubin.size();
  return CUDA_SUCCESS;
}

CUresult link_destroy(CUlinkState handle) {
  Link* link = Slab<Link>::find(handle);
  if (link == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Context& context = *link->context;
  const std::uint64_t name = link->name;
  const bool alive = context.name.load() == link->context_name;
  // The executor ends the links of a context with it.
  if (Slab<Link>::destroy(link) && alive) (void)context.client->session().post(wire::LinkDestroy(name));
  return static_cast<CUresult>(context.error.load());
}

}  // namespace avec::client
