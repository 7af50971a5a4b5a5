#include "base/settings.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "support/catch.h"

namespace {

/// Sets a variable for one test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

std::string write_file(const std::string& text) {
  const std::string path = (std::filesystem::temp_directory_path() / "avec-settings-test.toml").string();
  std::ofstream(path) << text;
  return path;
}

}  // namespace

TEST_CASE("a setting that nobody set has its default") {
  const auto settings = avec::Settings::load();
  CHECK(settings.text("executor") == "auto://127.0.0.1:7700");
  CHECK(settings.origin("executor") == "default");
  CHECK(settings.number("connect-deadline") == 5000);
  CHECK_FALSE(settings.flag("insecure"));
}

TEST_CASE("every default parses as its own type") {
  auto settings = avec::Settings::load();
  for (const avec::Setting& setting : avec::setting_table()) {
    std::string problem;
    INFO(setting.key);
    CHECK(settings.set(setting.key, setting.initial, problem));
  }
}

TEST_CASE("the command line wins over the environment, and that over the file") {
  const Variable file("AVEC_CONFIG", write_file("executor = \"tcp://file:1\"\nspin = 7\ninsecure = true\n"));
  const Variable environment("AVEC_SPIN", "8");
  auto settings = avec::Settings::load();
  CHECK(settings.text("executor") == "tcp://file:1");
  CHECK(settings.origin("executor") == "file");
  CHECK(settings.flag("insecure"));
  CHECK(settings.number("spin") == 8);
  CHECK(settings.origin("spin") == "environment");
  std::string problem;
  CHECK(settings.set("spin", "9", problem));
  CHECK(settings.number("spin") == 9);
  CHECK(settings.origin("spin") == "command line");
  CHECK(settings.warnings().empty());
}

TEST_CASE("an unknown variable is named with its nearest match") {
  const Variable wrong("AVEC_EXECUTER", "tcp://x:1");
  const auto settings = avec::Settings::load();
  REQUIRE(settings.warnings().size() == 1);
  CHECK(settings.warnings()[0] == "unknown variable AVEC_EXECUTER; did you mean AVEC_EXECUTOR?");
}

TEST_CASE("an unknown key of the file is named with its nearest match") {
  const Variable file("AVEC_CONFIG", write_file("lisen = \"tcp://0.0.0.0:1\"\n"));
  const auto settings = avec::Settings::load();
  REQUIRE(settings.warnings().size() == 1);
  CHECK(settings.warnings()[0].find("unknown setting lisen; did you mean listen?") != std::string::npos);
}

TEST_CASE("a value that does not parse is ignored with a warning that says what to write") {
  const Variable wrong("AVEC_WAIT", "fast");
  const Variable number("AVEC_SPIN", "12ms");
  const auto settings = avec::Settings::load();
  CHECK(settings.text("wait") == "adaptive");
  CHECK(settings.number("spin") == 50);
  REQUIRE(settings.warnings().size() == 2);
}

TEST_CASE("a file that is not TOML is a warning, not an end") {
  const Variable file("AVEC_CONFIG", write_file("executor = = 3"));
  const auto settings = avec::Settings::load();
  CHECK(settings.warnings().size() == 1);
  CHECK(settings.text("device") == "auto");
}

TEST_CASE("an unknown key on the command line is refused") {
  auto settings = avec::Settings::load();
  std::string problem;
  CHECK_FALSE(settings.set("tokenfile", "x", problem));
  CHECK(problem == "unknown setting tokenfile; did you mean token-file?");
  CHECK_FALSE(settings.set("insecure", "maybe", problem));
}
