#include "executor/worker/libraries.h"

#include <dlfcn.h>

#include <new>
#include <string_view>

#include "base/limits.h"

namespace avec::worker {
namespace {

using libraries::kMaxHostBytes;
using libraries::kNull;

/// Handles and descriptors of one session.
constexpr std::size_t kMaxObjects = 1u << 20;

/// Where the toolkit's installers put libraries, when the loader does not know.
constexpr const char* kToolkitFolder = "/usr/local/cuda/lib64";

/// The session of this process: a worker has one.
SessionLibraries* the_session = nullptr;

/// NVRTC asks for its built-in functions by a bare name when it compiles, which the loader need not know
/// where NVRTC itself was found in a folder: what is loaded already is found.
void load_builtins(const std::filesystem::path& library) {
  const std::string name = library.filename().string();
  if (!library.has_parent_path() || !name.starts_with("libnvrtc.so")) return;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(library.parent_path(), error)) {
    if (entry.path().filename().string().starts_with("libnvrtc-builtins.so."))
      ::dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
  }
}

std::uint64_t padded(std::uint64_t bytes) { return (bytes + 7) & ~std::uint64_t{7}; }

}  // namespace

void SessionLibraries::configure(std::filesystem::path cpu_folder, std::vector<std::filesystem::path> folders) {
  cpu_folder_ = std::move(cpu_folder);
  folders_ = std::move(folders);
  the_session = this;
}

SessionLibraries::~SessionLibraries() {
  if (the_session == this) the_session = nullptr;
}

SessionLibraries::Loaded& SessionLibraries::load(const LibraryDescription& description) {
  Loaded& loaded = [&]() -> Loaded& {
    std::scoped_lock lock(mutex_);
    return loaded_[description.number];
  }();
  std::scoped_lock lock(loaded.mutex);
  if (loaded.tried) return loaded;
  loaded.tried = true;
  loaded.addresses.resize(description.entry_count);
  std::vector<std::string> candidates;
  // A library that needs no GPU is the same on the CPU device.
  const bool needs_gpu = description.cpu == nullptr || std::string_view(description.cpu) != description.soname;
  if (!cpu_folder_.empty() && needs_gpu) {
    // One that the CPU device lacks may be lent from a folder of the user's, but never NVIDIA's by chance.
    if (description.cpu != nullptr) {
      candidates.push_back((cpu_folder_ / description.cpu).string());
    } else {
      for (const auto& folder : folders_) candidates.push_back((folder / description.soname).string());
    }
    if (candidates.empty()) {
      loaded.problem = "the CPU device has no " + std::string(description.name);
      return loaded;
    }
  } else {
    for (const auto& folder : folders_) candidates.push_back((folder / description.soname).string());
    candidates.emplace_back(description.soname);
    candidates.push_back(std::string(kToolkitFolder) + "/" + description.soname);
  }
  load(description, candidates, loaded);
  return loaded;
}

void SessionLibraries::load(const LibraryDescription& description, const std::vector<std::string>& candidates,
                            Loaded& loaded) {
  std::string why;
  for (const std::string& candidate : candidates) {
    loaded.handle = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (loaded.handle != nullptr) {
      loaded.path = candidate;
      load_builtins(candidate);
      return;
    }
    const char* said = ::dlerror();
    if (why.empty() || candidate == description.soname) why = said == nullptr ? "unknown reason" : said;
  }
  loaded.problem = "the executor has no " + std::string(description.soname) + " (" + why +
                   "); install it there, or name its folder in the setting library-path";
}

std::string SessionLibraries::open(std::uint16_t library, std::string& problem) {
  const LibraryDescription* description = library_description(library);
  if (description == nullptr) {
    problem = "the executor does not know this library: is it older than the client?";
    return {};
  }
  const Loaded& loaded = load(*description);
  problem = loaded.problem;
  return loaded.path;
}

const LibraryEntry* SessionLibraries::find(std::uint16_t library, std::uint16_t function, void*& address, int& status) {
  const LibraryDescription* description = library_description(library);
  status = description == nullptr ? 1 : description->not_supported;
  if (description == nullptr || function >= description->entry_count) return nullptr;
  const LibraryEntry& entry = description->entries[function];
  if (entry.call == nullptr) return nullptr;
  Loaded& loaded = load(*description);
  if (entry.symbol == nullptr) {
    address = entry.address;
    return loaded.handle != nullptr ? &entry : nullptr;
  }
  void*& known = loaded.addresses[function];
  if (known == nullptr && loaded.handle != nullptr) known = ::dlsym(loaded.handle, entry.symbol);
  address = known;
  return known != nullptr ? &entry : nullptr;
}

void* SessionLibraries::symbol(std::uint16_t library, const char* name) {
  const LibraryDescription* description = library_description(library);
  if (description == nullptr) return nullptr;
  const Loaded& loaded = load(*description);
  return loaded.handle == nullptr ? nullptr : ::dlsym(loaded.handle, name);
}

const SessionLibraries::Object* SessionLibraries::find_object(std::uint64_t name, std::uint16_t kind) const {
  const auto at = objects_.find(name);
  return at != objects_.end() && at->second.kind == kind ? &at->second : nullptr;
}

bool SessionLibraries::can_add(std::uint64_t name) const {
  return objects_.size() < kMaxObjects && !objects_.contains(name);
}

bool SessionLibraries::add_object(std::uint64_t name, Object object) {
  return objects_.size() < kMaxObjects && objects_.emplace(name, std::move(object)).second;
}

std::optional<SessionLibraries::Object> SessionLibraries::take_object(std::uint64_t name) {
  auto node = objects_.extract(name);
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped());
}

bool SessionLibraries::take_scratch(std::uint64_t bytes) {
  std::uint64_t taken = scratch_.load();
  do {
    if (bytes > libraries::kMaxScratchBytes || taken > libraries::kMaxScratchBytes - bytes) return false;
  } while (!scratch_.compare_exchange_weak(taken, taken + bytes));
  return true;
}

std::byte* LibraryArguments::take(std::uint64_t bytes) {
  const std::uint64_t words = padded(bytes) / 8;
  if (bytes > kMaxHostBytes || words > words_.size() - next_) {
    bad("an argument longer than the frame");
    return nullptr;
  }
  auto* at = reinterpret_cast<std::byte*>(words_.data() + next_);
  next_ += words;
  // Words lie at multiples of 8; a complex number of doubles, and what holds one, is read from a multiple of 16.
  if (bytes < kAlignment || reinterpret_cast<std::uintptr_t>(at) % kAlignment == 0) return at;
  std::byte* aligned = buffer(bytes);
  std::memcpy(aligned, at, bytes);
  return aligned;
}

/// As long as what the frame brought at most.
std::byte* LibraryArguments::buffer(std::uint64_t bytes) {
  buffers_.push_back(std::make_unique<Aligned[]>(bytes / sizeof(Aligned) + 1));
  return reinterpret_cast<std::byte*>(buffers_.back().get());
}

std::byte* LibraryArguments::result_buffer(std::uint64_t bytes) {
  if (bytes > kMaxHostBytes || total_ + padded(bytes) > kMaxHostBytes) {
    bad("more results than one call may have");
    return nullptr;
  }
  total_ += padded(bytes);
  return buffer(bytes);
}

void* LibraryArguments::stream() {
  void* found = stream_(word());
  if (found == nullptr) status_ = library_.invalid_value;
  return found;
}

void* LibraryArguments::event() {
  const std::uint64_t name = word();
  if (name == 0) return nullptr;
  void* found = event_(name);
  if (found == nullptr) status_ = library_.invalid_value;
  return found;
}

void* LibraryArguments::object(LibraryKind kind, bool optional) {
  const std::uint64_t name = word();
  if (name == 0 && optional) return nullptr;
  const SessionLibraries::Object* found = session_.find_object(name, kind.number);
  // Its creation may have failed: no violation.
  if (found == nullptr) {
    status_ = library_.invalid_value;
    return nullptr;
  }
  if (found->storage != nullptr) used_.push_back(found->storage);
  return found->native;
}

void* LibraryArguments::destroy(LibraryKind kind) {
  if (next_ < words_.size()) end_.push_back(words_[next_]);
  return object(kind);
}

void* LibraryArguments::create(LibraryKind kind) {
  Made made{word(), kind, std::make_unique<std::uint64_t>(0), {kind.number, nullptr, nullptr}};
  if (made.name == 0) bad("an object without a name");
  if (!session_.can_add(made.name)) bad("an object whose name is taken, or more objects than a session may have");
  void* result = made.slot.get();
  if (kind.form == HandleForm::kCaller) {
    made.object.storage = std::make_shared<std::byte[]>(kind.bytes);
    result = made.object.native = made.object.storage.get();
  }
  made_.push_back(std::move(made));
  return result;
}

const void* LibraryArguments::scalar(std::uint64_t bytes) { return word() == 0 ? given(device()) : take(bytes); }

void* LibraryArguments::result(std::uint64_t bytes) {
  return word() == 0 ? given(device()) : out(wanted(), bytes, false);
}

LibraryArguments::Blob LibraryArguments::in() {
  Blob blob;
  const std::uint64_t bytes = word();
  if (bytes == kNull) return blob;
  blob.data = take(bytes);
  blob.bytes = bytes;
  blob.null = false;
  return blob;
}

void* LibraryArguments::expect(const Blob& blob, std::uint64_t bytes, bool optional) {
  if (blob.null) return optional || bytes == 0 ? nullptr : given<void>(nullptr);
  if (blob.bytes != bytes) bad("an array of another size than its arguments say");
  return blob.data;
}

void* LibraryArguments::both(const Blob& blob, std::uint64_t bytes, bool optional) {
  void* data = expect(blob, bytes, optional);
  if (data != nullptr) outputs_.emplace_back(static_cast<std::byte*>(data), bytes);
  return data;
}

void* LibraryArguments::out(bool wanted, std::uint64_t bytes, bool optional) {
  if (!wanted) return optional || bytes == 0 ? nullptr : given<void>(nullptr);
  std::byte* data = result_buffer(bytes);
  if (data != nullptr) outputs_.emplace_back(data, bytes);
  return data;
}

void* LibraryArguments::scratch(std::uint64_t bytes) {
  if (bytes == 0 || !good()) return nullptr;
  if (session_.take_scratch(bytes)) {
    scratch_bytes_ += bytes;
    // Aligned for any type, since it is no array of bytes to the allocator; touched only as far as the library does.
    scratches_.emplace_back(new (std::nothrow) std::byte[bytes]);
    if (scratches_.back() != nullptr) return scratches_.back().get();
  }
  status_ = library_.alloc_failed;
  return nullptr;
}

const char* LibraryArguments::string(bool optional) {
  const Blob blob = in();
  if (blob.null) return optional ? nullptr : given<const char>(nullptr);
  if (blob.bytes == 0 || blob.data == nullptr || blob.data[blob.bytes - 1] != std::byte{0}) {
    bad("a text without an end");
    return nullptr;
  }
  return reinterpret_cast<const char*>(blob.data);
}

void* LibraryArguments::objects_in(LibraryKind kind, std::uint64_t& count) {
  count = 0;
  const std::uint64_t bytes = word();
  if (bytes == kNull) return nullptr;
  count = bytes / 8;
  if (bytes % 8 != 0 || count > words_.size() - next_) {
    bad("an array longer than the frame");
    return nullptr;
  }
  auto* natives = reinterpret_cast<void**>(buffer(bytes));
  for (std::uint64_t i = 0; i < count; ++i) natives[i] = object(kind, true);
  return natives;
}

void* LibraryArguments::objects_out(LibraryKind kind, std::uint64_t& count) {
  const std::uint64_t bytes = word();
  count = bytes / 8;
  if (bytes % 8 != 0 || count > words_.size() - next_) {
    bad("an array longer than the frame");
    return nullptr;
  }
  // The library fills an array; each object finds its own in settle().
  auto* natives = reinterpret_cast<std::uint64_t*>(buffer(bytes));
  for (std::uint64_t i = 0; i < count; ++i) {
    create(kind);
    made_.back().slot.reset();
    made_.back().object.native = natives + i;
  }
  return natives;
}

void LibraryArguments::settle() {
  if (status_ != library_.ok) {
    for (auto& [name, object] : ended_) session_.add_object(name, std::move(object));
    return;
  }
  for (Made& made : made_) {
    if (made.slot == nullptr) {
      std::memcpy(&made.object.native, made.object.native, sizeof made.object.native);
    } else if (made.kind.form != HandleForm::kCaller) {
      made.object.native = reinterpret_cast<void*>(static_cast<std::uintptr_t>(*made.slot));
    }
    session_.add_object(made.name, std::move(made.object));
  }
}

std::vector<std::uint64_t> LibraryArguments::results() const {
  std::vector<std::uint64_t> words;
  for (const auto& [data, bytes] : outputs_) {
    const std::size_t at = words.size();
    words.resize(at + padded(bytes) / 8);
    std::memcpy(words.data() + at, data, bytes);
  }
  return words;
}

}  // namespace avec::worker

extern "C" void* avec_library_symbol(std::uint16_t library, const char* name) {
  return avec::worker::the_session == nullptr ? nullptr : avec::worker::the_session->symbol(library, name);
}
