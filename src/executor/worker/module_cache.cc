#include "executor/worker/module_cache.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

#include "base/handle.h"
#include "base/limits.h"

namespace avec::worker {
namespace fs = std::filesystem;

Hash sha256(std::span<const std::byte> bytes) {
  Hash hash;
  ::SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash.data());
  return hash;
}

ModuleCache::ModuleCache(fs::path folder) : folder_(std::move(folder)) {}

fs::path ModuleCache::file_of(const Hash& hash) const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name;
  for (unsigned char byte : hash) {
    name += kDigits[byte >> 4];
    name += kDigits[byte & 15];
  }
  return folder_ / (name + ".image");
}

std::shared_ptr<const Image> ModuleCache::find(const Hash& hash) {
  {
    std::lock_guard lock(mutex_);
    if (auto known = images_.find(hash); known != images_.end()) return known->second;
  }
  if (folder_.empty()) return nullptr;
  std::ifstream file(file_of(hash), std::ios::binary | std::ios::ate);
  if (!file) return nullptr;
  const auto size = file.tellg();
  if (size <= 0 || static_cast<std::uint64_t>(size) > limits::kMaxImageBytes) return nullptr;
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), size)) return nullptr;
  std::error_code ignored;
  if (sha256(bytes) != hash) {
    fs::remove(file_of(hash), ignored);  // damaged: the client sends it again
    return nullptr;
  }
  fs::last_write_time(file_of(hash), fs::file_time_type::clock::now(), ignored);
  auto image = std::make_shared<const Image>(std::move(bytes));
  std::lock_guard lock(mutex_);
  return images_.emplace(hash, std::move(image)).first->second;
}

bool ModuleCache::store(const Hash& hash, std::vector<std::byte> bytes) {
  if (sha256(bytes) != hash) return false;
  auto image = std::make_shared<const Image>(std::move(bytes));
  if (!folder_.empty()) write(hash, *image);
  std::lock_guard lock(mutex_);
  images_.emplace(hash, std::move(image));
  return true;
}

// A cache that cannot be written is a slower cache: errors here are not errors of the call.
void ModuleCache::write(const Hash& hash, const Image& image) {
  static std::atomic<unsigned> counter{0};
  std::error_code error;
  const fs::path target = file_of(hash);
  if (fs::exists(target, error)) return;
  if (!fs::exists(folder_, error)) {
    fs::create_directories(folder_, error);
    if (error) return;
    ::chmod(folder_.c_str(), 0700);
  }
  make_room(image.bytes().size());
  const fs::path part = folder_ / ("part-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
  Descriptor file(::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return;
  auto left = image.bytes();
  while (!left.empty()) {
    const ssize_t n = ::write(file.get(), left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    left = left.subspan(static_cast<std::size_t>(n));
  }
  file.reset();
  // Readers see a whole file or none.
  if (!left.empty() || ::rename(part.c_str(), target.c_str()) != 0) ::unlink(part.c_str());
}

void ModuleCache::make_room(std::uintmax_t bytes) {
  struct Entry {
    fs::path path;
    std::uintmax_t bytes;
    fs::file_time_type used;
  };
  std::vector<Entry> entries;
  std::uintmax_t total = bytes;
  std::error_code error;
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".image") continue;
    std::error_code gone;
    Entry entry{at->path(), at->file_size(gone), at->last_write_time(gone)};
    if (gone) continue;
    total += entry.bytes;
    entries.push_back(std::move(entry));
  }
  if (total <= limits::kModuleCacheBytes) return;
  std::ranges::sort(entries, {}, &Entry::used);
  for (const Entry& entry : entries) {
    if (total <= limits::kModuleCacheBytes) break;
    fs::remove(entry.path, error);
    total -= entry.bytes;
  }
}

}  // namespace avec::worker
