#include "executor/policy/policy.h"

#include "support/catch.h"

namespace avec::test {
namespace {

using policy::Policy;
using policy::Priority;

policy::Rules rules(const char* text, const char* identity) {
  const auto parsed = Policy::parse(text, "policy.toml");
  INFO((parsed ? "" : parsed.error()));
  REQUIRE(parsed.has_value());
  const auto found = parsed->rules_of(identity);
  REQUIRE(found.has_value());
  return *found;
}

std::string problem(const char* text) {
  const auto parsed = Policy::parse(text, "policy.toml");
  REQUIRE_FALSE(parsed.has_value());
  return parsed.error();
}

TEST_CASE("an identity has its own rules, and those of the default where it has none") {
  constexpr const char* kText = R"(
[default]
device-memory = "1GiB"
sessions = 2
idle-time = "10min"
[[identity]]
name = "laptop"
device-memory = "2GiB"
devices = [1, "GPU-12"]
pinned-memory = 65536
in-flight = "16 MiB"
module-cache = "3KiB"
priority = "high"
compute-share = 25
)";
  const auto laptop = rules(kText, "laptop");
  CHECK(laptop.device_memory == std::uint64_t{2} << 30);
  CHECK(laptop.devices == std::vector<std::string>{"1", "GPU-12"});
  CHECK(laptop.pinned_memory == 65536);
  CHECK(laptop.in_flight == 16u << 20);
  CHECK(laptop.module_cache == 3072);
  CHECK(laptop.priority == Priority::kHigh);
  CHECK(laptop.compute_share == 25);
  CHECK(laptop.sessions == 2);
  CHECK(laptop.idle_time == std::chrono::minutes(10));
  const auto other = rules(kText, "desk");
  CHECK(other.device_memory == std::uint64_t{1} << 30);
  CHECK(other.devices.empty());
  CHECK(other.priority == Priority::kNormal);
}

TEST_CASE("an exact name wins over patterns, the first pattern over later ones") {
  constexpr const char* kText = R"(
[[identity]]
name = "lab-*"
sessions = 1
[[identity]]
name = "*"
sessions = 2
[[identity]]
name = "lab-7"
sessions = 3
)";
  CHECK(rules(kText, "lab-1").sessions == 1);
  CHECK(rules(kText, "lab-7").sessions == 3);
  CHECK(rules(kText, "desk").sessions == 2);
}

TEST_CASE("who is in no entry is not let in where there is no default") {
  const auto parsed = Policy::parse("[[identity]]\nname = \"laptop\"\n", "p");
  REQUIRE(parsed.has_value());
  CHECK(parsed->rules_of("laptop").has_value());
  CHECK_FALSE(parsed->rules_of("desk").has_value());
}

TEST_CASE("patterns cover whole names") {
  CHECK(policy::matches("*", ""));
  CHECK(policy::matches("a*b*c", "a-b-b-c"));
  CHECK(policy::matches("lab-?", "lab-1"));
  CHECK_FALSE(policy::matches("lab-?", "lab-12"));
  CHECK_FALSE(policy::matches("lab", "lab-1"));
  CHECK_FALSE(policy::matches("a*b", "a-bc"));
  CHECK_FALSE(policy::matches("", "a"));
}

TEST_CASE("each error names file and line, and says what to write") {
  CHECK(problem("[default]\nsessions = 0\n") == "policy.toml:2: sessions: write a whole number from 1 to 256");
  CHECK(problem("[default]\ndevice-memory = \"8GB\"\n").starts_with("policy.toml:2: device-memory: write bytes, as in"));
  CHECK(problem("[default]\ndevice-memory = 0\n").starts_with("policy.toml:2: device-memory"));
  CHECK(problem("[default]\ndevice-memory = \"18446744073709551615TiB\"\n").starts_with("policy.toml:2: device-memory"));
  CHECK(problem("[default]\nidle-time = \"soon\"\n").starts_with("policy.toml:2: idle-time: write a time"));
  CHECK(problem("[default]\n\ndevice-memroy = 1\n").starts_with("policy.toml:3: unknown key 'device-memroy'"));
  CHECK(problem("[default]\nname = \"x\"\n").starts_with("policy.toml:2: unknown key 'name'"));
  CHECK(problem("[default]\npriority = 3\n") == "policy.toml:2: priority: write \"low\", \"normal\" or \"high\"");
  CHECK(problem("[default]\ncompute-share = 101\n").starts_with("policy.toml:2: compute-share"));
  CHECK(problem("[default]\nin-flight = \"1MiB\"\n").starts_with("policy.toml:2: in-flight"));
  CHECK(problem("[default]\ndevices = []\n").starts_with("policy.toml:2: devices"));
  CHECK(problem("[default]\ndevices = [0, 0]\n").starts_with("policy.toml:2: devices: 0 stands there twice"));
  CHECK(problem("[default]\ndevices = [\"0,1\"]\n").starts_with("policy.toml:2: devices"));
  CHECK(problem("[[identity]]\nsessions = 1\n").starts_with("policy.toml:1: an [[identity]] without a name"));
  CHECK(problem("[[identity]]\nname = \"a\"\n[[identity]]\nname = \"a\"\n").starts_with("policy.toml:3: identity \"a\" stands there twice"));
  CHECK(problem("[user]\n").starts_with("policy.toml:1: unknown 'user'"));
  CHECK(problem("[default]\nsessions = \n").starts_with("policy.toml:2: this is not TOML"));
  CHECK(problem("").starts_with("policy.toml:1: an empty policy lets nobody in"));
  const std::string two = problem("[default]\nsessions = 0\npriority = 1\n");
  CHECK(std::ranges::count(two, '\n') == 1);
}

}  // namespace
}  // namespace avec::test
