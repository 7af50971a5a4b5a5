// A call of a CUDA library (cuBLAS, cuDNN ...): what the entry points that are generated from
// schemas/libraries/*.api are made of. Arguments are added in the order of the function's
// parameters; run() sends the call and returns the library's status.
//
// Handles and descriptors are minted here, so that creating one costs no round trip. What a
// descriptor was set to is known as its *content*, a number that equal sequences of calls give;
// answers of pure functions are remembered by the content of their arguments.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "libraries/abi.h"

namespace avec::client {

struct Context;
struct Stream;

/// A library's own status values for what goes wrong on this side.
struct LibraryStatus {
  int ok, not_initialized, alloc_failed, invalid_value, execution_failed, not_supported;
  int invalid_handle;  ///< what a handle that is none gets
};

enum class LibraryMode : std::uint8_t {
  kPosted,   ///< nothing comes back: queued and forgotten
  kSync,     ///< waits for the answer
  kQuery,    ///< depends on its arguments alone: asked once
  kLearned   ///< waits the first time for arguments of this content, posted from then on
};

struct LibraryFunction {
  std::uint16_t number;
  const char* name;
  LibraryMode mode;
  bool may_block = false;
  bool work = false;   ///< adds work to a stream
  bool keyed = false;  ///< the content of its arguments matters
  /// Sets or ends something: an earlier failure that is still to be told does not keep it from being done.
  bool setter = false;
  /// A failure with which its results are there all the same; kAlways: with any.
  int gives = 0;
  static constexpr int kAlways = -1;
};

struct LibraryInfo {
  std::uint16_t number;
  const char* soname;
  LibraryStatus status;
  const LibraryFunction* functions;  ///< for messages
  std::size_t function_count;
};

/// How a kind's handles look to the program.
enum class HandleForm : std::uint8_t {
  kPointer,
  kInt,    ///< a C int, from 1 on
  kCaller,  ///< a struct in the caller's memory; its first 8 bytes are ours
  kEither   ///< a pointer of ours, or to such a struct
};

struct ObjectKind {
  std::uint16_t number;  ///< unique among all libraries
  HandleForm form = HandleForm::kPointer;
};

/// A handle or descriptor of the program.
struct LibraryObject {
  std::uint16_t kind = 0;
  std::uint64_t name = 0;  ///< on the wire
  std::atomic<std::uint64_t> content{0};
  /// The calls that made its content, oldest first; of calls with the same function and first number
  /// (an attribute) the latest. By the thread that changes it.
  std::vector<std::pair<std::uint64_t, std::string>> parts;
  CUstream stream = nullptr;       ///< that the program set; null: the default stream
  bool device_pointers = false;    ///< its pointer mode: scalars lie in device memory
  std::array<std::uint64_t, 4> state{};  ///< for hand-written code of the library
  int number = 0;  ///< HandleForm::kInt: what the program has
};

/// The live object of a handle, or null: for hand-written functions and checks.
LibraryObject* find_library_object(const void* handle, ObjectKind kind) noexcept;
LibraryObject* find_library_object(int handle, ObjectKind kind) noexcept;

/// An object that the executor does not know yet, for hand-written functions: they give it a name. Null: no memory.
LibraryObject* make_library_object(ObjectKind kind) noexcept;
void end_library_object(LibraryObject* object) noexcept;

/// Says once per function that it does not work, and why.
void say_unsupported(const char* function, const char* reason) noexcept;

class LibraryCall {
 public:
  LibraryCall(const LibraryInfo& library, const LibraryFunction& function);
  ~LibraryCall();
  LibraryCall(const LibraryCall&) = delete;
  LibraryCall& operator=(const LibraryCall&) = delete;

  void value(std::uint64_t word);
  /// `keyed`: counts for the content.
  void value(float number, bool keyed = true);
  void value(double number, bool keyed = true);
  void raw(const void* bytes, std::size_t count);  ///< a value of `count` bytes
  void device(const void* address);
  void stream(void* handle, bool binds);  ///< binds: the first object works in it from now on
  void event(void* handle);
  void object(const void* handle, ObjectKind kind, bool optional = false);
  void object(int handle, ObjectKind kind, bool optional = false);
  /// As object; the call changes its content.
  template <class Handle>
  void set(Handle handle, ObjectKind kind) {
    object(handle, kind);
    if (!failed_) changed_.push_back({last_object_, last_key_});
  }
  void create(void* out, ObjectKind kind);
  template <class Handle>
  void destroy(Handle handle, ObjectKind kind) {
    object(handle, kind);
    destroyed_ = last_object_;
  }
  /// One value, in host or device memory as the pointer mode of `owner` says.
  void scalar(const void* value, std::uint64_t bytes, const void* owner, ObjectKind kind);
  /// The same where the size depends on other arguments: it travels with the bytes.
  void sized_scalar(const void* value, std::uint64_t bytes, const void* owner, ObjectKind kind);
  void result(void* value, std::uint64_t bytes, const void* owner, ObjectKind kind);
  /// Host memory. The bytes that are read count for the content, unless `keyed` is false.
  void in(const void* bytes, std::uint64_t count, bool optional, bool keyed = true);
  void out(void* bytes, std::uint64_t count, bool optional);
  /// The number of bytes travels: the executor cannot know it.
  void out_counted(void* bytes, std::uint64_t count);
  void inout(void* bytes, std::uint64_t count, bool optional);
  void in_objects(const void* handles, std::uint64_t count, ObjectKind kind, bool optional);
  void out_objects(void* handles, std::uint64_t count, ObjectKind kind);
  void string(const char* text, bool optional);
  void null(const void* pointer);

  /// A check of the caller's: a status that is not ok is what run() returns.
  void check(int status) {
    if (status != library_.status.ok) fail(status);
  }
  int run() noexcept;
  /// After run(): the call was sent, or answered with "ok". run() may have told of an earlier one's failure all the same.
  bool done() const { return done_; }

 private:
  struct Output {
    void* to;
    std::uint64_t bytes;
    bool also_input = false;  ///< what comes back is right even if the library wrote nothing
  };

  void add(const void* bytes, std::size_t count);
  void word(std::uint64_t word) { add(&word, sizeof word); }
  void key(const void* bytes, std::size_t count);
  void key(std::uint64_t word) { key(&word, sizeof word); }
  /// Counts so many bytes of the program's memory; false, and the call fails, where they are too many.
  bool fits(std::uint64_t count);
  void blob(const void* bytes, std::uint64_t count);
  void use(LibraryObject* object);
  void fail(int status) {
    if (!failed_) failure_ = status;
    failed_ = true;
  }
  int run_now() noexcept;
  int ready();
  int prepare();
  int post();
  int wait();
  int from_memory(bool& found);
  int perform();
  void give(const std::uint64_t* words, std::size_t count, bool failed = false);
  void change_contents();
  void settle(bool done);
  int of_cuda(CUresult error) const;

  const LibraryInfo& library_;
  const LibraryFunction& function_;
  void* counted_;
  bool failed_ = false, done_ = false;
  bool host_result_ = false;  // the executor's library waits for the device
  int failure_ = 0;
  LibraryObject* first_object_ = nullptr;
  LibraryObject* last_object_ = nullptr;
  struct Changed {
    LibraryObject* object;
    std::size_t key;  ///< where its content lies in key_
  };
  std::vector<Changed> changed_;
  std::size_t last_key_ = 0;  ///< of last_object_
  LibraryObject* destroyed_ = nullptr;
  CUstream explicit_stream_ = nullptr;
  bool has_stream_ = false, binds_ = false;
  Context* context_ = nullptr;
  Stream* in_stream_ = nullptr;
  struct Created {
    LibraryObject* object;
    void* out;
    HandleForm form;
  };
  std::array<Created, 4> created_;
  std::size_t created_count_ = 0;
  std::vector<Created> more_created_;
  std::array<Output, 16> outputs_;
  std::size_t output_count_ = 0;
  std::string key_;
  std::uint64_t first_value_ = 0;
  bool has_value_ = false;
  std::uint64_t host_bytes_ = 0;  // read and written in the program's memory
  std::size_t bytes_ = 0;
  alignas(8) std::array<std::byte, 768> few_;
  std::vector<std::byte> many_;  // once few_ is too small: everything
};

/// The executor's library failed a posted call (a push). Any thread; short.
void library_call_failed(class Client& client, std::uint16_t library, std::uint16_t function, int status);

}  // namespace avec::client
