#include "client/library_call.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "base/settings.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/event.h"
#include "client/process.h"
#include "client/progress.h"
#include "client/slab.h"
#include "client/stats.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

using libraries::kMaxHostBytes;
using libraries::kNull;

constexpr std::size_t kLibraries = DeferredErrors::kLibraries;
/// What is remembered of answers and contents together, bytes; then all of it is forgotten.
constexpr std::size_t kMemoryBytes = 64u << 20;

/// What pure functions answered, and which calls of kLearned functions have succeeded.
class Memory {
 public:
  /// A number for this content: equal texts have equal numbers.
  std::uint64_t content(const std::string& text) {
    std::scoped_lock lock(mutex_);
    const auto [at, fresh] = contents_.try_emplace(text, next_);
    if (fresh) {
      ++next_;
      grow(text.size());
    }
    return at->second;
  }
  bool find(const std::string& key, std::vector<std::uint64_t>& answer) {
    std::scoped_lock lock(mutex_);
    const auto at = answers_.find(key);
    if (at == answers_.end()) return false;
    answer = at->second;
    return true;
  }
  void keep(const std::string& key, std::vector<std::uint64_t> answer) {
    std::scoped_lock lock(mutex_);
    const std::size_t bytes = key.size() + answer.size() * sizeof(std::uint64_t);
    answers_.insert_or_assign(key, std::move(answer));
    grow(bytes);
  }

 private:
  void grow(std::size_t bytes) {
    bytes_ += bytes + 128;
    if (bytes_ < kMemoryBytes) return;
    // Numbers are never given twice, so what objects already have stays right.
    contents_.clear();
    answers_.clear();
    bytes_ = 0;
  }

  std::mutex mutex_;
  std::unordered_map<std::string, std::uint64_t> contents_;
  std::unordered_map<std::string, std::vector<std::uint64_t>> answers_;
  std::uint64_t next_ = 1;
  std::size_t bytes_ = 0;
};

Memory& memory() {
  static Memory& instance = *new Memory;  // outlives static destructors
  return instance;
}

struct LibraryState {
  std::mutex mutex;                      ///< held while the executor loads it
  std::atomic<const LibraryInfo*> info{nullptr};
  std::atomic<int> open{0};              ///< 0: not asked, 1: there, -1: not to be had
};

std::array<LibraryState, kLibraries>& states() {
  static auto& instance = *new std::array<LibraryState, kLibraries>;
  return instance;
}

/// Handles that are C ints. A number is given once: one that has ended never names a later object.
struct IntHandles {
  std::mutex mutex;
  std::unordered_map<int, LibraryObject*> objects;
  int last = 0;

  /// 0: every number has been given.
  int add(LibraryObject* object) {
    std::scoped_lock lock(mutex);
    if (last == std::numeric_limits<int>::max()) return 0;
    objects.emplace(last + 1, object);
    return ++last;
  }
};

IntHandles& int_handles() {
  static auto& instance = *new IntHandles;
  return instance;
}

CUresult open_library(Client& client, LibraryState& state, const LibraryInfo& info) {
  std::scoped_lock lock(state.mutex);
  if (state.open.load() != 0) return CUDA_SUCCESS;
  state.info.store(&info);
  const auto reply = client.session().call(wire::LibraryOpen(info.number, 0));
  if (!reply) return to_cuda(reply.error());
  const auto* path = (*reply)->path();
  const bool there = path != nullptr && path->size() != 0;
  if (!there) {
    const auto* problem = (*reply)->problem();
    say(std::string(info.soname) + " cannot be used: " + (problem == nullptr ? "the executor has none" : problem->c_str()));
  }
  state.open.store(there ? 1 : -1);
  return CUDA_SUCCESS;
}

/// For whoever looks for the call that a program does not survive: log-level debug.
void tell_failure(const char* function, int status, bool here) noexcept {
  try {
    const std::string_view level = client_settings().text("log-level");
    const bool wanted = level == "debug" || level == "trace";
    if (wanted) say(std::string(function) + " returns " + std::to_string(status) + (here ? ", refused by the client" : ""));
  } catch (...) {
  }
}

}  // namespace

LibraryObject* find_library_object(const void* handle, ObjectKind kind) noexcept {
  if (kind.form == HandleForm::kCaller) {
    if (handle == nullptr) return nullptr;
    const void* inside;
    std::memcpy(&inside, handle, sizeof inside);
    handle = inside;
  }
  LibraryObject* object = Slab<LibraryObject>::find(handle);
  if (object == nullptr && handle != nullptr && kind.form == HandleForm::kEither)
    return find_library_object(handle, {kind.number, HandleForm::kCaller});
  return object != nullptr && object->kind == kind.number ? object : nullptr;
}

LibraryObject* find_library_object(int handle, ObjectKind kind) noexcept {
  IntHandles& table = int_handles();
  std::scoped_lock lock(table.mutex);
  const auto at = table.objects.find(handle);
  return at != table.objects.end() && at->second->kind == kind.number ? at->second : nullptr;
}

LibraryObject* make_library_object(ObjectKind kind) noexcept {
  LibraryObject* made = Slab<LibraryObject>::make();
  if (made != nullptr) made->kind = kind.number;
  return made;
}

void end_library_object(LibraryObject* object) noexcept {
  if (object->number != 0) {
    IntHandles& table = int_handles();
    std::scoped_lock lock(table.mutex);
    table.objects.erase(object->number);
  }
  Slab<LibraryObject>::destroy(object);
}

void say_unsupported(const char* function, const char* reason) noexcept {
  static std::mutex mutex;
  static auto& said = *new std::unordered_set<std::string>;
  try {
    std::scoped_lock lock(mutex);
    if (said.insert(function).second) say(std::string(function) + " is not supported: " + reason);
  } catch (const std::bad_alloc&) {
  }
}

void library_call_failed(Client& client, std::uint16_t library, std::uint16_t function, int status) {
  if (library >= kLibraries) return;
  LibraryState& state = states()[library];
  const LibraryInfo* info = state.info.load();
  const char* name = "a function";
  if (info != nullptr) {
    for (std::size_t i = 0; i < info->function_count; ++i)
      if (info->functions[i].number == function) name = info->functions[i].name;
  }
  if (!client.deferred_errors().note_library(library, status)) return;  // the first one counts
  say(std::string(name) + " failed on the executor with status " + std::to_string(status) +
      "; the next call of its library, or the next that synchronises, says so");
}

LibraryCall::LibraryCall(const LibraryInfo& library, const LibraryFunction& function)
    : library_(library),
      function_(function),
      counted_(counting.load(std::memory_order_relaxed) != Counting::kOff ? avec_call_begin(function.name) : nullptr) {}

LibraryCall::~LibraryCall() {
  end_work();
  if (counted_ != nullptr) avec_call_end(counted_);
}

void LibraryCall::add(const void* bytes, std::size_t count) {
  if (count == 0) return;
  const std::size_t padded = (count + 7) & ~std::size_t{7};
  std::byte* to;
  if (many_.empty() && bytes_ + padded <= few_.size()) {
    to = few_.data() + bytes_;
  } else {
    if (many_.empty()) many_.assign(few_.begin(), few_.begin() + static_cast<std::ptrdiff_t>(bytes_));
    many_.resize(bytes_ + padded);
    to = many_.data() + bytes_;
  }
  if (padded != count) std::memset(to + padded - 8, 0, 8);
  std::memcpy(to, bytes, count);
  bytes_ += padded;
}

void LibraryCall::key(const void* bytes, std::size_t count) {
  if (function_.keyed) key_.append(static_cast<const char*>(bytes), count);
}

void LibraryCall::value(std::uint64_t number) {
  if (!has_value_) first_value_ = number;
  has_value_ = true;
  word(number);
  key(number);
}

void LibraryCall::value(float number, bool keyed) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &number, sizeof number);
  if (keyed) return value(bits);
  word(bits);
}

void LibraryCall::value(double number, bool keyed) {
  std::uint64_t bits;
  std::memcpy(&bits, &number, sizeof number);
  if (keyed) return value(bits);
  word(bits);
}

void LibraryCall::raw(const void* bytes, std::size_t count) {
  add(bytes, count);
  key(bytes, count);
}

void LibraryCall::device(const void* address) {
  word(reinterpret_cast<std::uintptr_t>(address));
  // Which one does not count; whether there is one may decide what the library answers.
  const char given = address == nullptr ? '0' : '1';
  key(&given, sizeof given);
}

void LibraryCall::stream(void* handle, bool binds) {
  explicit_stream_ = static_cast<CUstream>(handle);
  has_stream_ = true;
  binds_ = binds;
  // The name is known once the call's context is: prepare() would come too late for the word.
  if (const int status = ready(); status != library_.status.ok) return fail(status);
  Stream* found;
  if (const CUresult result = resolve_stream(explicit_stream_, found); result != CUDA_SUCCESS)
    return fail(of_cuda(result));
  word(found->name);
}

void LibraryCall::event(void* handle) {
  Event* found = handle == nullptr ? nullptr : Slab<Event>::find(handle);
  if (handle != nullptr && found == nullptr) return fail(library_.status.invalid_value);
  word(found == nullptr ? 0 : found->name);
}

void LibraryCall::use(LibraryObject* object) {
  last_object_ = object;
  if (first_object_ == nullptr) first_object_ = object;
  last_key_ = key_.size();
  word(object->name);
  key(object->content.load(std::memory_order_relaxed));
}

void LibraryCall::object(const void* handle, ObjectKind kind, bool optional) {
  if (handle == nullptr && optional) return value(std::uint64_t{0});
  LibraryObject* found = find_library_object(handle, kind);
  if (found == nullptr) return fail(first_object_ == nullptr ? library_.status.invalid_handle : library_.status.invalid_value);
  use(found);
}

void LibraryCall::object(int handle, ObjectKind kind, bool optional) {
  if (handle == 0 && optional) return value(std::uint64_t{0});
  LibraryObject* found = find_library_object(handle, kind);
  if (found == nullptr) return fail(first_object_ == nullptr ? library_.status.invalid_handle : library_.status.invalid_value);
  use(found);
}

void LibraryCall::create(void* out, ObjectKind kind) {
  if (out == nullptr) return fail(library_.status.invalid_value);
  if (failed_) return;
  if (const int status = ready(); status != library_.status.ok) return fail(status);
  CUresult error = CUDA_SUCCESS;
  Client* client = process_client(error);
  if (client == nullptr) return fail(of_cuda(error));
  LibraryObject* made = Slab<LibraryObject>::make();
  if (made == nullptr) return fail(library_.status.alloc_failed);
  made->kind = kind.number;
  made->name = client->mint();
  if (kind.form == HandleForm::kInt) made->number = int_handles().add(made);
  if (kind.form == HandleForm::kInt && made->number == 0) {
    end_library_object(made);
    return fail(library_.status.alloc_failed);
  }
  const Created created{made, out, kind.form};
  if (created_count_ < created_.size()) {
    created_[created_count_] = created;
  } else {
    more_created_.push_back(created);
  }
  ++created_count_;
  word(made->name);
}

void LibraryCall::scalar(const void* value, std::uint64_t bytes, const void* owner, ObjectKind kind) {
  const LibraryObject* object = find_library_object(owner, kind);
  if (object == nullptr || value == nullptr || bytes > kMaxHostBytes) return fail(library_.status.invalid_value);
  word(object->device_pointers ? 0 : 1);
  if (object->device_pointers) return device(value);
  add(value, bytes);
}

void LibraryCall::sized_scalar(const void* value, std::uint64_t bytes, const void* owner, ObjectKind kind) {
  const LibraryObject* object = find_library_object(owner, kind);
  if (object == nullptr || value == nullptr || bytes == kNull) return fail(library_.status.invalid_value);
  word(object->device_pointers ? 0 : 1);
  if (object->device_pointers) return device(value);
  if (fits(bytes)) blob(value, bytes);
}

void LibraryCall::result(void* value, std::uint64_t bytes, const void* owner, ObjectKind kind) {
  const LibraryObject* object = find_library_object(owner, kind);
  if (object == nullptr || value == nullptr) return fail(library_.status.invalid_value);
  word(object->device_pointers ? 0 : 1);
  if (object->device_pointers) return device(value);
  host_result_ = true;
  out(value, bytes, false);
}

bool LibraryCall::fits(std::uint64_t count) {
  if (count <= kMaxHostBytes) host_bytes_ += (count + 7) & ~std::uint64_t{7};
  if (count <= kMaxHostBytes && host_bytes_ <= kMaxHostBytes) return true;
  say_unsupported(function_.name, "it would read and write more than 12 MiB of host memory in one call");
  fail(library_.status.not_supported);
  return false;
}

void LibraryCall::blob(const void* bytes, std::uint64_t count) {
  word(count);
  add(bytes, count);
}

void LibraryCall::in(const void* bytes, std::uint64_t count, bool optional, bool keyed) {
  if (bytes == nullptr && (optional || count == 0)) return value(kNull);
  if (bytes == nullptr || count == kNull) return fail(library_.status.invalid_value);
  if (!fits(count)) return;
  blob(bytes, count);
  if (!keyed) return;
  key(count);
  key(bytes, count);
}

void LibraryCall::out(void* bytes, std::uint64_t count, bool optional) {
  if (bytes == nullptr && (optional || count == 0)) return value(std::uint64_t{0});
  if (bytes == nullptr || count == kNull || output_count_ == outputs_.size())
    return fail(library_.status.invalid_value);
  if (!fits(count)) return;
  value(std::uint64_t{1});
  outputs_[output_count_++] = {bytes, count};
}

void LibraryCall::out_counted(void* bytes, std::uint64_t count) {
  if (bytes == nullptr || count == 0) return value(std::uint64_t{0});
  if (count == kNull || output_count_ == outputs_.size()) return fail(library_.status.invalid_value);
  if (!fits(count)) return;
  value(count);
  outputs_[output_count_++] = {bytes, count};
}

void LibraryCall::inout(void* bytes, std::uint64_t count, bool optional) {
  in(bytes, count, optional);
  if (output_count_ == outputs_.size()) return fail(library_.status.invalid_value);
  if (bytes != nullptr && !failed_) outputs_[output_count_++] = {bytes, count, true};
}

void LibraryCall::in_objects(const void* handles, std::uint64_t count, ObjectKind kind, bool optional) {
  if (handles == nullptr && (optional || count == 0)) return value(kNull);
  if (handles == nullptr) return fail(library_.status.invalid_value);
  if (!fits(libraries::host_bytes(count, 8))) return;
  word(count * 8);
  key(count);
  for (std::uint64_t i = 0; i < count && !failed_; ++i) {
    LibraryObject* const first = first_object_;
    object(static_cast<const void* const*>(handles)[i], kind, true);
    if (first != nullptr) first_object_ = first;
  }
}

void LibraryCall::out_objects(void* handles, std::uint64_t count, ObjectKind kind) {
  if (handles == nullptr) return fail(library_.status.invalid_value);
  if (!fits(libraries::host_bytes(count, 8))) return;
  word(count * 8);
  for (std::uint64_t i = 0; i < count && !failed_; ++i) create(static_cast<void**>(handles) + i, kind);
}

void LibraryCall::string(const char* text, bool optional) {
  in(text, text == nullptr ? 0 : std::strlen(text) + 1, optional);
  if (text == nullptr && !optional) fail(library_.status.invalid_value);
}

void LibraryCall::null(const void* pointer) {
  if (pointer != nullptr) fail(library_.status.not_supported);
}

int LibraryCall::of_cuda(CUresult error) const {
  switch (error) {
    case CUDA_SUCCESS:
      return library_.status.ok;
    case CUDA_ERROR_OUT_OF_MEMORY:
      return library_.status.alloc_failed;
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_HANDLE:
      return library_.status.invalid_value;
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_NO_DEVICE:
      return library_.status.not_initialized;
    default:
      return library_.status.execution_failed;
  }
}

/// The library is there, and the thread has a context as NVIDIA's library would have made it.
int LibraryCall::ready() {
  if (context_ != nullptr) return library_.status.ok;
  LibraryState& state = states()[library_.number];
  if (state.open.load(std::memory_order_acquire) == 0) {
    if (const CUresult result = process_init(); result != CUDA_SUCCESS) return of_cuda(result);
    CUresult error = CUDA_SUCCESS;
    Client* client = process_client(error);
    if (client == nullptr) return of_cuda(error);
    if (const CUresult result = open_library(*client, state, library_); result != CUDA_SUCCESS) return of_cuda(result);
  }
  if (state.open.load(std::memory_order_acquire) < 0) return library_.status.not_initialized;
  if (current_context == nullptr) {
    CUresult error = CUDA_SUCCESS;
    Client* client = process_client(error);
    if (client == nullptr) return of_cuda(error);
    CUcontext context;
    if (const CUresult result = primary_retain(*client, &context, 0); result != CUDA_SUCCESS) return of_cuda(result);
    if (const CUresult result = context_set_current(context); result != CUDA_SUCCESS) return of_cuda(result);
  }
  return of_cuda(usable_context(context_));
}

int LibraryCall::prepare() {
  if (const int status = ready(); status != library_.status.ok) return status;
  if (!function_.setter) {
    if (const int status = context_->client->deferred_errors().take_library(library_.number); status != 0) return status;
  }
  if (!function_.work) return library_.status.ok;
  const CUstream handle = has_stream_ && !binds_ ? explicit_stream_ : first_object_ != nullptr ? first_object_->stream : nullptr;
  if (const CUresult result = stream_for_device_work(handle, in_stream_); result != CUDA_SUCCESS) return of_cuda(result);
  if (context_->client->launches_watched()) [[unlikely]] {
    const ConstBytes arguments{many_.empty() ? few_.data() : many_.data(), bytes_};
    Coherence& coherence = context_->client->coherence();
    if (coherence.concerned(arguments)) return of_cuda(coherence.before_kernel(*in_stream_, arguments));
  }
  return library_.status.ok;
}

/// Of a call that failed, what the library need not have written is left as it is.
void LibraryCall::give(const std::uint64_t* words, std::size_t count, bool failed) {
  const auto* from = reinterpret_cast<const std::byte*>(words);
  std::size_t left = count * sizeof *words;
  for (std::size_t i = 0; i < output_count_; ++i) {
    const std::size_t padded = (outputs_[i].bytes + 7) & ~std::size_t{7};
    if (padded > left) return;
    if (!failed || outputs_[i].also_input) std::memcpy(outputs_[i].to, from, outputs_[i].bytes);
    from += padded;
    left -= padded;
  }
}

void LibraryCall::change_contents() {
  const std::uint64_t slot = (std::uint64_t{function_.number} << 32 | (first_value_ & 0xffffffff)) + 1;
  // What the changed objects were before does not count; what the others are does.
  std::string text = key_;
  for (const Changed& changed : changed_)
    std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(changed.key), sizeof(std::uint64_t), '\0');
  for (std::size_t i = 0; i < changed_.size(); ++i) {
    LibraryObject& object = *changed_[i].object;
    std::erase_if(object.parts, [&](const auto& part) { return part.first == slot; });
    object.parts.emplace_back(slot, text + static_cast<char>('0' + i));
    std::string all;
    for (const auto& [number, part] : object.parts) {
      all.append(reinterpret_cast<const char*>(&number), sizeof number);
      all += part;
    }
    object.content.store(memory().content(all), std::memory_order_relaxed);
  }
}

/// What the call made, changed and ended takes effect, or (not done) what it made goes again.
void LibraryCall::settle(bool done) {
  for (std::size_t i = 0; i < created_count_; ++i) {
    const Created& created = i < created_.size() ? created_[i] : more_created_[i - created_.size()];
    if (!done) {
      end_library_object(created.object);
      continue;
    }
    created.object->parts.emplace_back(0, key_ + static_cast<char>('0' + i));
    created.object->content.store(memory().content(created.object->parts.back().second), std::memory_order_relaxed);
    if (created.form == HandleForm::kInt) {
      std::memcpy(created.out, &created.object->number, sizeof created.object->number);
    } else {
      const void* value = created.object;
      std::memcpy(created.out, &value, sizeof value);
    }
  }
  if (!done) return;
  if (!changed_.empty()) change_contents();
  if (binds_ && first_object_ != nullptr) first_object_->stream = explicit_stream_;
  if (destroyed_ != nullptr) end_library_object(destroyed_);
}

int LibraryCall::post() {
  Client& client = *context_->client;
  const wire::LibraryCall body(library_.number, function_.number, 0, context_->name.load(),
                               in_stream_ == nullptr ? 0 : in_stream_->name);
  const std::byte* arguments = many_.empty() ? few_.data() : many_.data();
  const auto posted = client.session().post_filled(body, bytes_, [&](MutableBytes payload) {
    if (bytes_ != 0) std::memcpy(payload.data(), arguments, bytes_);
  });
  if (in_stream_ != nullptr && client.coherent()) client.coherence().work_posted();
  return of_cuda(to_cuda(posted));
}

int LibraryCall::wait() {
  Client& client = *context_->client;
  flatbuffers::FlatBufferBuilder builder(bytes_ + 128);
  const auto* arguments = reinterpret_cast<const std::uint64_t*>(many_.empty() ? few_.data() : many_.data());
  const auto words = builder.CreateVector(arguments, bytes_ / sizeof *arguments);
  builder.Finish(wire::CreateLibraryAsk(builder, library_.number, function_.number,
                                        function_.may_block || host_result_ ? 1 : 0, context_->name.load(),
                                        in_stream_ == nullptr ? 0 : in_stream_->name, words));
  const auto reply = client.session().call<wire::LibraryAsk>(builder);
  if (in_stream_ != nullptr && client.coherent()) client.coherence().work_posted();
  if (!reply) return of_cuda(to_cuda(reply.error()));
  const int status = (*reply)->status();
  const auto* results = (*reply)->results();
  const std::size_t count = results == nullptr ? 0 : results->size();
  const bool failed = status != library_.status.ok && status != function_.gives && function_.gives != LibraryFunction::kAlways;
  if (count != 0) give(results->data(), count, failed);
  if (status == library_.status.ok && function_.mode >= LibraryMode::kQuery)
    memory().keep(key_, results == nullptr ? std::vector<std::uint64_t>{} : std::vector<std::uint64_t>(results->begin(), results->end()));
  return status;
}

int LibraryCall::from_memory(bool& found) {
  std::vector<std::uint64_t> answer;
  found = memory().find(key_, answer);
  if (found) give(answer.data(), answer.size());
  return library_.status.ok;
}

int LibraryCall::run() noexcept {
  const int status = run_now();
  if (status != library_.status.ok) [[unlikely]]
    tell_failure(function_.name, status, failed_);
  return status;
}

int LibraryCall::run_now() noexcept {
  try {
    if (failed_) {
      settle(false);
      return failure_;
    }
    const std::uint64_t which = (std::uint64_t{library_.number} << 32) | function_.number;
    key(which);
    int status = prepare();
    if (status != library_.status.ok) {
      settle(false);
      return status;
    }
    status = perform();
    if (status != library_.status.ok || !function_.setter) return status;
    const int earlier = context_->client->deferred_errors().take_library(library_.number);
    return earlier != 0 ? earlier : status;
  } catch (const std::bad_alloc&) {
    return library_.status.alloc_failed;
  } catch (...) {
    return library_.status.execution_failed;
  }
}

int LibraryCall::perform() {
  int status = library_.status.ok;
  bool known = function_.mode == LibraryMode::kPosted;
  if (function_.mode >= LibraryMode::kQuery) {
    status = from_memory(known);
    if (known && function_.mode == LibraryMode::kQuery) return status;
  }
  const bool posted = known && (function_.mode == LibraryMode::kLearned || output_count_ == 0) && bytes_ <= limits::kInlinePayloadBytes;
  status = posted ? post() : wait();
  done_ = status == library_.status.ok;
  settle(done_);
  return status;
}

}  // namespace avec::client
