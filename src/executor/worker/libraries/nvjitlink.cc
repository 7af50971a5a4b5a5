// Links of the executor's nvJitLink, for a client that has none.
#include "libraries/nvjitlink.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/worker/libraries.h"
#include "libraries/texts.h"

using namespace avec::libraries;

namespace {

constexpr std::uint16_t kJitLink = 10;  // schemas/libraries/nvjitlink.api
constexpr std::size_t kMaxOptions = 4096;

struct Link {
  void* native = nullptr;  ///< null: none was made
  std::string input;       ///< the beginning of the next one
  std::string part;        ///< being fetched
  std::int32_t fetched = kJitLinkParts;
};

struct PartFunctions {
  const char* size;
  const char* get;
};
constexpr PartFunctions kParts[kJitLinkParts] = {{"nvJitLinkGetLinkedCubinSize", "nvJitLinkGetLinkedCubin"},
                                                 {"nvJitLinkGetLinkedPtxSize", "nvJitLinkGetLinkedPtx"},
                                                 {"nvJitLinkGetErrorLogSize", "nvJitLinkGetErrorLog"},
                                                 {"nvJitLinkGetInfoLogSize", "nvJitLinkGetInfoLog"}};

template <class... Arguments>
int call(const char* name, Arguments... arguments) {
  const auto function = reinterpret_cast<int (*)(Arguments...)>(avec_library_symbol(kJitLink, name));
  return function == nullptr ? kLinkInternal : function(arguments...);
}

int part_size(const Link& link, std::int32_t part, std::size_t& size) {
  if (part < 0 || part >= kJitLinkParts) return kLinkInvalidInput;
  if (link.native == nullptr) return kLinkNullInput;
  const int status = call(kParts[part].size, link.native, &size);
  return status == kLinkOk && size > kMaxLinkBytes ? kLinkInternal : status;
}

}  // namespace

extern "C" {
int avec_jitlink_create(const void* options, std::uint64_t bytes, void** link, std::int32_t* status);
int avec_jitlink_begin(void* link, const void* data, std::uint64_t bytes);
int avec_jitlink_add(void* link, std::int32_t type, const void* data, std::uint64_t bytes, const char* name);
int avec_jitlink_complete(void* link);
int avec_jitlink_size(void* link, std::int32_t part, std::uint64_t* size);
int avec_jitlink_fetch(void* link, std::int32_t part, std::uint64_t first, void* to, std::uint64_t bytes);
int avec_jitlink_destroy(void* link);

int avec_jitlink_create(const void* options, std::uint64_t bytes, void** link, std::int32_t* status) {
  const auto texts = TextReader({static_cast<const char*>(options), static_cast<std::size_t>(bytes)}).texts();
  if (!texts || texts->size() > kMaxOptions) return kLinkInvalidInput;
  std::vector<const char*> pointers;
  for (const std::string& text : *texts) pointers.push_back(text.c_str());
  pointers.push_back(nullptr);  // without options their address must not be null either
  auto made = std::make_unique<Link>();
  // A refused option is an answer: there is a link then too, and its log is wanted.
  *status = call("nvJitLinkCreate", &made->native, static_cast<std::uint32_t>(texts->size()),
                 static_cast<const char* const*>(pointers.data()));
  *link = made.release();
  return kLinkOk;
}

int avec_jitlink_begin(void* link, const void* data, std::uint64_t bytes) {
  std::string& input = static_cast<Link*>(link)->input;
  if (bytes > kMaxLinkBytes - input.size()) return kLinkInvalidInput;
  input.append(static_cast<const char*>(data), static_cast<std::size_t>(bytes));
  return kLinkOk;
}

int avec_jitlink_add(void* link, std::int32_t type, const void* data, std::uint64_t bytes, const char* name) {
  auto* to = static_cast<Link*>(link);
  if (const int status = avec_jitlink_begin(link, data, bytes); status != kLinkOk) return status;
  const std::string input = std::exchange(to->input, {});
  if (to->native == nullptr) return kLinkNullInput;
  return call("nvJitLinkAddData", to->native, static_cast<int>(type), static_cast<const void*>(input.data()), input.size(), name);
}

int avec_jitlink_complete(void* link) {
  const auto* of = static_cast<const Link*>(link);
  return of->native == nullptr ? kLinkNullInput : call("nvJitLinkComplete", of->native);
}

int avec_jitlink_size(void* link, std::int32_t part, std::uint64_t* size) {
  std::size_t bytes = 0;
  const int status = part_size(*static_cast<const Link*>(link), part, bytes);
  if (status == kLinkOk) *size = bytes;
  return status;
}

int avec_jitlink_fetch(void* link, std::int32_t part, std::uint64_t first, void* to, std::uint64_t bytes) {
  auto& from = *static_cast<Link*>(link);
  if (first == 0 || from.fetched != part) {
    std::size_t size = 0;
    if (const int status = part_size(from, part, size); status != kLinkOk) return status;
    from.part.assign(size, '\0');
    from.fetched = part;
    if (const int status = call(kParts[part].get, from.native, static_cast<void*>(from.part.data())); status != kLinkOk) return status;
  }
  if (first > from.part.size() || bytes > from.part.size() - first) return kLinkInvalidInput;
  std::memcpy(to, from.part.data() + first, static_cast<std::size_t>(bytes));
  if (first + bytes == from.part.size()) {
    from.part = {};
    from.fetched = kJitLinkParts;
  }
  return kLinkOk;
}

int avec_jitlink_destroy(void* link) {
  const std::unique_ptr<Link> ended(static_cast<Link*>(link));
  return ended->native == nullptr ? kLinkOk : call("nvJitLinkDestroy", &ended->native);
}
}
