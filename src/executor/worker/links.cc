// The linker: inputs by the hash of their content, like images of modules.
#include <algorithm>
#include <cstring>

#include "executor/worker/jit_options.h"
#include "executor/worker/session.h"

namespace avec::worker {
namespace {

constexpr std::size_t kLogBytes = 16u << 10;
/// Of a cubin, in one answer: half of what a body may have.
constexpr std::uint64_t kPieceBytes = limits::kMaxBodyBytes / 2;

}  // namespace

/// What a helper works on lives until the helper is done, whatever becomes of its name.
struct LinkState {
  const DriverTable& driver;
  CUcontext context = nullptr;
  CUlinkState handle = nullptr;
  std::string errors, infos;   ///< written by the driver
  const void* cubin = nullptr; ///< the driver's, until the link ends
  std::size_t cubin_bytes = 0;

  explicit LinkState(const DriverTable& table)
      : driver(table), errors(kLogBytes, '\0'), infos(kLogBytes, '\0') {}
  ~LinkState() {
    if (handle != nullptr) driver.cuLinkDestroy(handle);
  }
  LinkState(const LinkState&) = delete;
  LinkState& operator=(const LinkState&) = delete;
};

namespace {

std::vector<std::byte> finished(const flatbuffers::FlatBufferBuilder& builder) {
  const auto* bytes = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {bytes, bytes + builder.GetSize()};
}

std::vector<std::byte> add_reply(const LinkState& state, bool needs_image, CUresult status) {
  flatbuffers::FlatBufferBuilder builder;
  const auto errors = builder.CreateString(state.errors.c_str());
  const auto infos = builder.CreateString(state.infos.c_str());
  builder.Finish(wire::CreateLinkAddReply(builder, needs_image, status, errors, infos));
  return finished(builder);
}

std::vector<std::byte> complete_reply(const LinkState& state, CUresult status, std::uint64_t offset) {
  flatbuffers::FlatBufferBuilder builder;
  const auto errors = builder.CreateString(state.errors.c_str());
  const auto infos = builder.CreateString(state.infos.c_str());
  const std::uint64_t piece =
      offset < state.cubin_bytes ? std::min<std::uint64_t>(kPieceBytes, state.cubin_bytes - offset) : 0;
  const auto cubin = builder.CreateVector(static_cast<const std::uint8_t*>(state.cubin) + (piece != 0 ? offset : 0), piece);
  builder.Finish(wire::CreateLinkCompleteReply(builder, status, errors, infos, state.cubin_bytes, cubin));
  return finished(builder);
}

}  // namespace

Result<> Session::operator()(const Header& header, const wire::LinkCreate& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  JitOptions options;
  if (!read_options(call, options, status)) return protocol_error("options and values that do not pair");
  if (status != CUDA_SUCCESS) return finish(header, status);
  Linker* link = links_.add(call.link());
  if (link == nullptr) return protocol_error("a link's name that cannot be given");
  link->context = context;
  link->state = std::make_shared<LinkState>(driver_);
  LinkState& state = *link->state;
  state.context = context->handle;
  options.add(CU_JIT_ERROR_LOG_BUFFER, state.errors.data());
  options.add(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, reinterpret_cast<void*>(kLogBytes));
  options.add(CU_JIT_INFO_LOG_BUFFER, state.infos.data());
  options.add(CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, reinterpret_cast<void*>(kLogBytes));
  make_current(*context);
  status = driver_.cuLinkCreate(options.count(), options.options.data(), options.values.data(), &state.handle);
  if (status != CUDA_SUCCESS) links_.remove(call.link());
  return finish(header, status);
}

Linker* Session::find_link(std::uint64_t name, CUresult& status) {
  Linker* link = links_.find(name);
  // One call at a time: the linker's state is nobody's to share.
  status = link != nullptr && !link->busy ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  return status == CUDA_SUCCESS ? link : nullptr;
}

void Session::link_done(std::uint64_t name) {
  if (Linker* link = links_.find(name)) link->busy = false;
}

Result<> Session::operator()(const Header& header, const wire::LinkAdd& call) {
  if (call.hash() == nullptr) return protocol_error("an input without a hash");
  CUresult status;
  Linker* link = find_link(call.link(), status);
  if (link == nullptr) return finish(header, status);
  JitOptions given;
  if (!read_options(call, given, status)) return protocol_error("options and values that do not pair");
  if (status != CUDA_SUCCESS) return finish(header, status);
  if (call.type() < 0 || call.type() >= CU_JIT_NUM_INPUT_TYPES) return finish(header, CUDA_ERROR_INVALID_VALUE);
  link->busy = true;
  Hash hash;
  std::memcpy(hash.data(), call.hash(), hash.size());
  auto sent = std::make_shared<std::vector<std::byte>>(take_image(*call.hash()));
  helpers_.run([this, header, state = link->state, link_name = call.link(), hash, sent, given,
                type = static_cast<CUjitInputType>(call.type()), expected = call.image_bytes(),
                name = call.name() != nullptr ? call.name()->str() : std::string()]() -> std::function<void()> {
    const bool was_sent = !sent->empty();
    const bool genuine = !was_sent || cache_.store(hash, std::move(*sent));
    std::shared_ptr<const Image> image = genuine ? cache_.find(hash) : nullptr;
    CUresult result = CUDA_SUCCESS;
    const bool usable = image != nullptr && image->bytes().size() == expected;
    if (usable) {
      JitOptions options = given;
      driver_.cuCtxSetCurrent(state->context);
      result = driver_.cuLinkAddData(state->handle, type, const_cast<std::byte*>(image->bytes().data()),
                                     image->bytes().size(), name.c_str(), options.count(), options.options.data(),
                                     options.values.data());
    }
    return [=, this] {
      link_done(link_name);
      if (!genuine) return close_with("protocol error: an input that does not have its hash");
      if (image != nullptr && !usable) return void(finish(header, CUDA_ERROR_INVALID_VALUE));
      link_.reply(header, CUDA_SUCCESS, add_reply(*state, image == nullptr, result));
    };
  });
  return {};
}

Result<> Session::operator()(const Header& header, const wire::LinkComplete& call) {
  CUresult status;
  Linker* link = find_link(call.link(), status);
  if (link == nullptr) return finish(header, status);
  if (link->state->cubin != nullptr) {
    link_.reply(header, CUDA_SUCCESS, complete_reply(*link->state, CUDA_SUCCESS, call.offset()));
    return {};
  }
  link->busy = true;
  helpers_.run([this, header, state = link->state, link_name = call.link()]() -> std::function<void()> {
    void* cubin = nullptr;
    std::size_t bytes = 0;
    driver_.cuCtxSetCurrent(state->context);
    const CUresult result = driver_.cuLinkComplete(state->handle, &cubin, &bytes);
    if (result == CUDA_SUCCESS) {
      state->cubin = cubin;
      state->cubin_bytes = cubin != nullptr ? bytes : 0;
    }
    return [=, this] {
      link_done(link_name);
      link_.reply(header, CUDA_SUCCESS, complete_reply(*state, result, 0));
    };
  });
  return {};
}

Result<> Session::operator()(const Header& header, const wire::LinkDestroy& call) {
  return finish(header, links_.remove(call.link()) != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

void Session::free_links_of(const Context& context) {
  std::vector<std::uint64_t> names;
  for (auto& [name, link] : links_)
    if (link->context == &context) names.push_back(name);
  for (std::uint64_t name : names) links_.remove(name);
}

}  // namespace avec::worker
