#include "executor/policy/policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/limits.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace avec::policy {
namespace {

// A policy of a thousand identities takes some hundred kilobytes.
constexpr std::size_t kMaxFileBytes = 4u << 20;

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array kBytes{Unit{"B", 1}, Unit{"KiB", 1u << 10}, Unit{"MiB", 1u << 20}, Unit{"GiB", 1u << 30},
                            Unit{"TiB", std::uint64_t{1} << 40}};
constexpr std::array kTimes{Unit{"s", 1}, Unit{"min", 60}, Unit{"h", 3600}, Unit{"d", 86'400}};

/// One file being read: collects what is wrong with it.
class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  void wrong(const toml::source_region& where, const std::string& what) {
    if (!problems_.empty()) problems_ += '\n';
    problems_ += name_ + ":" + std::to_string(where.begin.line) + ": " + what;
  }
  void wrong(const toml::node& node, const std::string& what) { wrong(node.source(), what); }
  const std::string& problems() const { return problems_; }

  void rules(const toml::table& table, Rules& rules, bool named);

 private:
  template <std::size_t N>
  std::uint64_t quantity(const toml::node& node, std::string_view key, const std::array<Unit, N>& units, const char* example);
  std::uint64_t number(const toml::node& node, std::string_view key, std::uint64_t least, std::uint64_t most);
  std::vector<std::string> devices(const toml::node& node);
  Priority priority(const toml::node& node);

  const std::string name_;
  std::string problems_;
};

template <std::size_t N>
std::uint64_t Reader::quantity(const toml::node& node, std::string_view key, const std::array<Unit, N>& units,
                               const char* example) {
  std::uint64_t value = 0;
  if (const auto whole = node.value_exact<std::int64_t>(); whole && *whole > 0) {
    return static_cast<std::uint64_t>(*whole);
  } else if (const auto text = node.value_exact<std::string>()) {
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    std::string_view unit(end, static_cast<std::size_t>(text->data() + text->size() - end));
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    const auto found = std::ranges::find(units, unit, &Unit::name);
    if (error == std::errc{} && found != units.end() && value != 0 && value <= (std::uint64_t{1} << 62) / found->factor)
      return value * found->factor;
  }
  wrong(node, std::string(key) + ": write " + example + "; leave the line out where there shall be no limit");
  return 0;
}

std::uint64_t Reader::number(const toml::node& node, std::string_view key, std::uint64_t least, std::uint64_t most) {
  const auto value = node.value_exact<std::int64_t>();
  if (value && *value >= static_cast<std::int64_t>(least) && *value <= static_cast<std::int64_t>(most))
    return static_cast<std::uint64_t>(*value);
  wrong(node, std::string(key) + ": write a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  return 0;
}

std::vector<std::string> Reader::devices(const toml::node& node) {
  constexpr const char* kHow = "devices: write a list of ordinals or UUIDs, as in [0, 1] or [\"GPU-8d3a...\"]";
  std::vector<std::string> list;
  const toml::array* array = node.as_array();
  if (array == nullptr || array->empty()) return wrong(node, kHow), list;
  for (const toml::node& entry : *array) {
    const auto ordinal = entry.value_exact<std::int64_t>();
    const auto uuid = entry.value_exact<std::string>();
    std::string name;
    if (ordinal && *ordinal >= 0 && *ordinal < 1024) name = std::to_string(*ordinal);
    else if (uuid && (uuid->starts_with("GPU-") || uuid->starts_with("MIG-")) && uuid->find(',') == std::string::npos) name = *uuid;
    if (name.empty()) wrong(entry, kHow);
    else if (std::ranges::find(list, name) != list.end()) wrong(entry, "devices: " + name + " stands there twice; write it once");
    else list.push_back(std::move(name));
  }
  return list;
}

Priority Reader::priority(const toml::node& node) {
  const auto text = node.value_exact<std::string>();
  if (text && *text == "low") return Priority::kLow;
  if (text && *text == "high") return Priority::kHigh;
  if (!text || *text != "normal") wrong(node, "priority: write \"low\", \"normal\" or \"high\"");
  return Priority::kNormal;
}

void Reader::rules(const toml::table& table, Rules& rules, bool named) {
  constexpr const char* kSize = "bytes, as in \"8GiB\", \"512MiB\" or 1073741824";
  for (const auto& [word, node] : table) {
    const std::string_view key = word.str();
    if (key == "name" && named) continue;
    if (key == "devices") rules.devices = devices(node);
    else if (key == "device-memory") rules.device_memory = quantity(node, key, kBytes, kSize);
    else if (key == "pinned-memory") rules.pinned_memory = quantity(node, key, kBytes, kSize);
    else if (key == "in-flight") {
      rules.in_flight = quantity(node, key, kBytes, kSize);
      if (rules.in_flight != 0 && rules.in_flight < 2 * limits::kChunkBytes)
        wrong(node, "in-flight: a session needs 8MiB at least");
    } else if (key == "module-cache") rules.module_cache = quantity(node, key, kBytes, kSize);
    else if (key == "sessions") rules.sessions = number(node, key, 1, limits::kMaxSessions);
    else if (key == "idle-time") rules.idle_time = std::chrono::seconds(quantity(node, key, kTimes, "a time, as in \"90s\", \"10min\" or \"2h\""));
    else if (key == "priority") rules.priority = priority(node);
    else if (key == "compute-share") rules.compute_share = number(node, key, 1, 100);
    else
      wrong(word.source(), "unknown key '" + std::string(key) +
                               "'; there are devices, device-memory, pinned-memory, sessions, in-flight, module-cache, "
                               "idle-time, priority and compute-share" + (named ? "" : "; 'name' belongs to [[identity]]"));
  }
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) {
  // The last star and the text that it covers so far: on a mismatch it covers one more.
  std::size_t p = 0, t = 0, star = std::string_view::npos, covered = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      covered = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++covered;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::expected<Policy, std::string> Policy::parse(std::string_view text, const std::string& name) {
  const toml::parse_result parsed = toml::parse(text);
  Reader reader(name);
  if (!parsed) {
    reader.wrong(parsed.error().source(), "this is not TOML: " + std::string(parsed.error().description()));
    return std::unexpected(reader.problems());
  }
  Policy policy;
  const toml::table& root = parsed.table();
  Rules base;
  if (const toml::node* node = root.get("default")) {
    if (node->is_table()) reader.rules(*node->as_table(), base, false);
    else reader.wrong(*node, "write [default] on a line of its own, and what holds for all below it");
    policy.default_ = base;
  }
  for (const auto& [word, node] : root) {
    if (word.str() == "default") continue;
    const toml::array* list = node.as_array();
    if (word.str() != "identity" || list == nullptr || !list->is_homogeneous(toml::node_type::table)) {
      reader.wrong(word.source(), "unknown '" + std::string(word.str()) + "'; a policy has [default] and, for each identity, [[identity]]");
      continue;
    }
    for (const toml::node& entry : *list) {
      const toml::table& table = *entry.as_table();
      const auto called = table["name"].value_exact<std::string>();
      if (!called || called->empty()) {
        reader.wrong(entry, "an [[identity]] without a name; write name = \"laptop\" or name = \"lab-*\" below it");
        continue;
      }
      if (std::ranges::find(policy.entries_, *called, &Entry::name) != policy.entries_.end())
        reader.wrong(entry, "identity \"" + *called + "\" stands there twice; write its lines below the first");
      Rules rules = base;
      reader.rules(table, rules, true);
      policy.entries_.push_back({*called, std::move(rules)});
    }
  }
  if (!reader.problems().empty()) return std::unexpected(reader.problems());
  if (!policy.default_ && policy.entries_.empty())
    return std::unexpected(name + ":1: an empty policy lets nobody in; write [default], or an [[identity]]");
  return policy;
}

std::expected<Policy, std::string> Policy::read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (!in) return std::unexpected(file.string() + ": cannot be read: " + std::strerror(errno));
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) return std::unexpected(file.string() + ": is larger than 4 MiB; use patterns");
  return parse(text, file.string());
}

std::optional<Rules> Policy::rules_of(std::string_view identity) const {
  for (const Entry& entry : entries_)
    if (entry.name == identity) return entry.rules;
  for (const Entry& entry : entries_)
    if (matches(entry.name, identity)) return entry.rules;
  return default_;
}

}  // namespace avec::policy
