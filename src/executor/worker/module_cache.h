// Module images by content: in memory for this process, on disk for all workers of a machine.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace avec::worker {

using Hash = std::array<unsigned char, 32>;

Hash sha256(std::span<const std::byte> bytes);

/// An image; one zero byte follows it in memory, so that text (PTX) always ends.
class Image {
 public:
  explicit Image(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) { bytes_.push_back(std::byte{0}); }
  std::span<const std::byte> bytes() const { return {bytes_.data(), bytes_.size() - 1}; }

 private:
  std::vector<std::byte> bytes_;
};

/// Any thread.
class ModuleCache {
 public:
  /// An empty folder: memory only.
  explicit ModuleCache(std::filesystem::path folder);
  /// The image with this content, or null. What comes from disk is verified.
  std::shared_ptr<const Image> find(const Hash& hash);
  /// Keeps the image. False when its content does not have this hash.
  bool store(const Hash& hash, std::vector<std::byte> bytes);

 private:
  std::filesystem::path file_of(const Hash& hash) const;
  void write(const Hash& hash, const Image& image);
  void make_room(std::uintmax_t bytes);

  const std::filesystem::path folder_;
  std::mutex mutex_;
  std::map<Hash, std::shared_ptr<const Image>> images_;  // guarded by mutex_
};

}  // namespace avec::worker
