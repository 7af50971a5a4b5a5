// CUDA libraries (cuBLAS, cuDNN ...) of one session: loaded when first used, called as
// schemas/libraries/*.api say, their handles and descriptors by the client's names.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "libraries/abi.h"

namespace avec::worker {

class LibraryArguments;

/// How a kind's handles look to the library.
enum class HandleForm : std::uint8_t { kPointer, kInt, kCaller, kEither };
struct LibraryKind {
  std::uint16_t number;
  HandleForm form = HandleForm::kPointer;
  std::uint32_t bytes = 0;  ///< kCaller: of the struct
};

/// Generated, one per function that the client can call.
struct LibraryEntry {
  std::uint16_t number;
  const char* name;
  const char* symbol;                              ///< in the library; null: `address` is ours
  int (*call)(LibraryArguments&, void* address);   ///< null: no such function
  void* address;
};

struct LibraryDescription {
  std::uint16_t number;
  const char* name;
  const char* soname;
  const char* cpu;         ///< file beside the CPU device's; null: it has none
  int ok, alloc_failed, invalid_value, not_supported;
  const LibraryEntry* entries;  ///< by number
  std::size_t entry_count;
};

/// Generated: by number, null where there is none.
const LibraryDescription* library_description(std::uint16_t number);

class SessionLibraries {
 public:
  SessionLibraries() = default;
  ~SessionLibraries();
  SessionLibraries(const SessionLibraries&) = delete;
  SessionLibraries& operator=(const SessionLibraries&) = delete;

  /// `cpu_folder`: where the CPU device's libraries lie; empty: NVIDIA's are used. `folders`: looked
  /// into for NVIDIA's before the loader's own search.
  void configure(std::filesystem::path cpu_folder, std::vector<std::filesystem::path> folders);

  /// Loads the library if need be: where it lies, or why it cannot be used in `problem`.
  std::string open(std::uint16_t library, std::string& problem);
  /// The function, or null with the library's status for the client. Loads the library.
  const LibraryEntry* find(std::uint16_t library, std::uint16_t function, void*& address, int& status);
  const LibraryDescription* description(std::uint16_t library) const { return library_description(library); }
  /// For hand-written executor code: NVIDIA's function; null when it or the library is missing. Any thread.
  void* symbol(std::uint16_t library, const char* name);

  struct Object {
    std::uint16_t kind = 0;
    void* native = nullptr;
    std::shared_ptr<std::byte[]> storage;  ///< kCaller
  };
  const Object* find_object(std::uint64_t name, std::uint16_t kind) const;
  /// Whether an object of this name can be added: there is none, and room for one.
  bool can_add(std::uint64_t name) const;
  bool add_object(std::uint64_t name, Object object);
  /// The object, which has no name any more.
  std::optional<Object> take_object(std::uint64_t name);
  /// Counts what a call works in on the host; false: kMaxScratchBytes would be passed. Any thread.
  bool take_scratch(std::uint64_t bytes);
  void give_scratch(std::uint64_t bytes) { scratch_ -= bytes; }

 private:
  struct Loaded {
    std::mutex mutex;  ///< held while it is loaded
    bool tried = false;
    // Do not change once load() has returned it.
    void* handle = nullptr;
    std::string path, problem;
    std::vector<void*> addresses;  ///< by function number; null: not looked up, or missing. The loop's
  };
  /// Any thread: waits for one that loads the same library.
  Loaded& load(const LibraryDescription& description);
  static void load(const LibraryDescription& description, const std::vector<std::string>& candidates, Loaded& loaded);

  std::filesystem::path cpu_folder_;
  std::vector<std::filesystem::path> folders_;
  std::mutex mutex_;
  std::unordered_map<std::uint16_t, Loaded> loaded_;  // guarded by mutex_, what is in it is not
  std::unordered_map<std::uint64_t, Object> objects_;
  std::atomic<std::uint64_t> scratch_{0};
};

/// The arguments of one call, taken in the order of the function's parameters. What it hands out
/// lives as long as it. A violation of the schema makes good() false; the function is not called then.
class LibraryArguments {
 public:
  using FindHandle = std::function<void*(std::uint64_t name)>;
  LibraryArguments(SessionLibraries& session, const LibraryDescription& library, std::vector<std::uint64_t> words,
                   FindHandle stream, FindHandle event)
      : session_(session), library_(library), words_(std::move(words)), stream_(std::move(stream)), event_(std::move(event)) {}
  ~LibraryArguments() { session_.give_scratch(scratch_bytes_); }
  LibraryArguments(const LibraryArguments&) = delete;
  LibraryArguments& operator=(const LibraryArguments&) = delete;

  bool good() const { return malformed_ == nullptr && status_ == library_.ok; }
  /// Null, or what is wrong with the frame: the client broke the protocol.
  const char* malformed() const { return malformed_; }
  int failure() const { return status_; }

  std::uint64_t word() {
    if (next_ == words_.size()) return bad("too few arguments");
    return words_[next_++];
  }
  template <class T>
  T value() {
    static_assert(sizeof(T) <= 8);
    const std::uint64_t bits = word();
    T result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  }
  template <class T>
  T raw() {
    T result{};
    if (const std::byte* from = take(sizeof result)) std::memcpy(&result, from, sizeof result);
    return result;
  }
  void* device() { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(word())); }
  void* stream();
  void* event();
  void* object(LibraryKind kind, bool optional = false);
  int object_int(LibraryKind kind, bool optional = false) {
    return static_cast<int>(reinterpret_cast<std::intptr_t>(object(kind, optional)));
  }
  void* destroy(LibraryKind kind);
  int destroy_int(LibraryKind kind) { return static_cast<int>(reinterpret_cast<std::intptr_t>(destroy(kind))); }
  void* create(LibraryKind kind);
  const void* scalar(std::uint64_t bytes);
  void* result(std::uint64_t bytes);

  struct Blob {
    std::byte* data = nullptr;
    std::uint64_t bytes = 0;
    bool null = true;
  };
  Blob in();
  struct SizedScalar {
    bool on_device = false;
    void* device = nullptr;
    Blob host;
  };
  SizedScalar sized_scalar() {
    SizedScalar scalar;
    scalar.on_device = word() == 0;
    if (scalar.on_device) {
      scalar.device = given(device());
    } else {
      scalar.host = in();
    }
    return scalar;
  }
  const void* expect(const SizedScalar& scalar, std::uint64_t bytes) {
    return scalar.on_device ? scalar.device : given(expect(scalar.host, bytes, false));
  }
  /// A result whose size depends on other arguments.
  struct SizedResult {
    void* device = nullptr;
    bool on_device = false, wanted = false;
  };
  SizedResult sized_result() {
    SizedResult result;
    result.on_device = word() == 0;
    if (result.on_device) {
      result.device = given(device());
    } else {
      result.wanted = wanted();
    }
    return result;
  }
  void* out(const SizedResult& result, std::uint64_t bytes) {
    return result.on_device ? result.device : out(result.wanted, bytes, false);
  }
  /// The bytes, which must be so many. Not `optional`: a null pointer is refused, unless it is of no bytes.
  void* expect(const Blob& blob, std::uint64_t bytes, bool optional);
  /// The same bytes are answered.
  void* both(const Blob& blob, std::uint64_t bytes, bool optional);
  bool wanted() { return word() != 0; }
  void* out(bool wanted, std::uint64_t bytes, bool optional);
  /// Memory to work in, of no known content: as much as the session may have, or the call fails.
  void* scratch(std::uint64_t bytes);
  const char* string(bool optional);
  void* objects_in(LibraryKind kind, std::uint64_t& count);
  void* objects_out(LibraryKind kind, std::uint64_t& count);
  void expect_count(std::uint64_t count, std::uint64_t expected) {
    if (count != expected) bad("an array of another size than its arguments say");
  }

  /// Calls it now, or keeps the call for run_deferred().
  template <class Call>
  int invoke(Call&& call) {
    if (next_ != words_.size()) bad("too many arguments");
    if (!good()) return status_;
    // What the call ends has no name from now on: the library may give its value to another while this waits.
    for (const std::uint64_t name : end_)
      if (auto object = session_.take_object(name)) ended_.emplace_back(name, std::move(*object));
    if (defer_) {
      deferred_ = std::forward<Call>(call);
      return library_.ok;
    }
    return status_ = call();
  }
  void defer() { defer_ = true; }
  bool deferred() const { return static_cast<bool>(deferred_); }
  int run_deferred() { return status_ = deferred_(); }

  /// After the call: what it made has names; if it failed, what it was to end has its name again.
  void settle();
  /// What it wrote, each padded to 8 bytes.
  std::vector<std::uint64_t> results() const;

 private:
  std::uint64_t bad(const char* what) {
    if (malformed_ == nullptr) malformed_ = what;
    return 0;
  }
  /// A pointer that the function takes no null for: the client would not have sent one.
  template <class T>
  T* given(T* pointer) {
    if (pointer == nullptr && status_ == library_.ok) status_ = library_.invalid_value;
    return pointer;
  }
  /// What the library gets lies as the most demanding type of its interface, cuDoubleComplex, must.
  static constexpr std::size_t kAlignment = 16;
  struct alignas(kAlignment) Aligned {
    std::array<std::byte, kAlignment> bytes;
  };
  std::byte* take(std::uint64_t bytes);
  std::byte* buffer(std::uint64_t bytes);
  std::byte* result_buffer(std::uint64_t bytes);

  SessionLibraries& session_;
  const LibraryDescription& library_;
  std::vector<std::uint64_t> words_;
  FindHandle stream_, event_;
  std::size_t next_ = 0;
  const char* malformed_ = nullptr;
  int status_ = 0;
  bool defer_ = false;
  std::function<int()> deferred_;
  struct Made {
    std::uint64_t name;
    LibraryKind kind;
    std::unique_ptr<std::uint64_t> slot;
    SessionLibraries::Object object;
  };
  std::vector<Made> made_;
  std::vector<std::uint64_t> end_;
  std::vector<std::pair<std::uint64_t, SessionLibraries::Object>> ended_;
  std::vector<std::shared_ptr<std::byte[]>> used_;  // a call that waits may outlive the names of its objects
  std::vector<std::unique_ptr<Aligned[]>> buffers_;
  std::vector<std::pair<const std::byte*, std::uint64_t>> outputs_;
  std::vector<std::unique_ptr<std::byte[]>> scratches_;
  std::uint64_t scratch_bytes_ = 0;
  std::uint64_t total_ = 0;  // of results
};

}  // namespace avec::worker

/// For hand-written functions of src/executor/worker/libraries: a function of a loaded library.
extern "C" void* avec_library_symbol(std::uint16_t library, const char* name);
