// The policy file: what each identity may use. TOML:
//
//   [default]                    what holds where nothing else is said; without it, who is not named may do nothing
//   device-memory = "8GiB"
//   [[identity]]
//   name = "laptop"              exact, or a pattern with * and ?; an exact name wins, then the first pattern
//   device-memory = "16GiB"      what is not written comes from [default]
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace avec::policy {

enum class Priority : std::uint8_t { kLow, kNormal, kHigh };

/// 0 and empty: no limit.
struct Rules {
  /// As CUDA_VISIBLE_DEVICES names them: ordinals of the executor, or UUIDs.
  std::vector<std::string> devices;
  std::uint64_t device_memory = 0;  ///< bytes, all sessions of the identity together
  std::uint64_t pinned_memory = 0;  ///< bytes of the executor's host memory, all sessions together
  std::uint64_t sessions = 0;       ///< at a time
  std::uint64_t in_flight = 0;      ///< bytes of payload and held frames of each session
  std::uint64_t module_cache = 0;   ///< bytes of module images that each session may add
  std::chrono::seconds idle_time{0};  ///< a session that does nothing for so long is closed
  Priority priority = Priority::kNormal;
  std::uint64_t compute_share = 0;  ///< percent of the multiprocessors, under MPS

  bool operator==(const Rules&) const = default;
};

class Policy {
 public:
  /// The error: lines "FILE:LINE: what is wrong and what to write".
  static std::expected<Policy, std::string> parse(std::string_view text, const std::string& name);
  static std::expected<Policy, std::string> read(const std::filesystem::path& file);

  /// What the identity may do; nothing: it is not let in.
  std::optional<Rules> rules_of(std::string_view identity) const;
  std::size_t identities() const { return entries_.size(); }

 private:
  struct Entry {
    std::string name;
    Rules rules;
  };
  std::optional<Rules> default_;
  std::vector<Entry> entries_;  // in the file's order
};

/// Whether the pattern (* any characters, ? one) covers the whole text.
bool matches(std::string_view pattern, std::string_view text);

}  // namespace avec::policy
