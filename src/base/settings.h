// The one table of settings. Command line, environment, config file and `avec info --config` are
// made from it. Order of precedence: command line, environment, file
// ($AVEC_CONFIG, else ~/.config/avec/config.toml, else /etc/avec/config.toml), default.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace avec {

enum class SettingType : std::uint8_t { kText, kUnsigned, kFlag, kChoice, kMilliseconds, kMicroseconds, kPath };
enum class SettingSide : std::uint8_t { kClient, kExecutor, kBoth };

struct Setting {
  std::string_view key;          ///< "executor": file key; AVEC_EXECUTOR; --executor
  SettingType type;
  SettingSide side;
  std::string_view initial;      ///< default, as text
  std::string_view choices;      ///< "auto|cuda|cpu" for kChoice
  std::string_view help;         ///< one sentence; units included
};

/// All settings, sorted by key.
std::span<const Setting> setting_table();

/// The environment variable of a key: "AVEC_TOKEN_FILE" for "token-file".
std::string variable_of(std::string_view key);

/// Values of the table for this process. Unknown AVEC_* variables and file keys, and values
/// that do not parse, become lines in warnings(), each naming its nearest match; the caller
/// prints them ("avec: warning: ...").
class Settings {
 public:
  /// Reads environment and file.
  static Settings load();
  /// Overrides one value (command line). False: no such key, or the value does not parse;
  /// `problem` says what to write instead.
  bool set(std::string_view key, std::string_view value, std::string& problem);

  /// The value as text. The key must be in the table.
  std::string_view text(std::string_view key) const;
  std::uint64_t number(std::string_view key) const;  ///< kUnsigned, kMilliseconds, kMicroseconds
  bool flag(std::string_view key) const;
  /// "default", "file", "environment" or "command line".
  std::string_view origin(std::string_view key) const;
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  struct Value { std::string text; std::string_view origin; };
  std::vector<Value> values_;  // parallel to setting_table()
  std::vector<std::string> warnings_;
};

/// Settings of a client process, loaded at the first use (the first CUDA call).
const Settings& client_settings();

/// Writes "avec: <message>\n" to stderr in one write.
void say(std::string_view message);

}  // namespace avec
