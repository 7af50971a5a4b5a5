#include "base/settings.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

extern char** environ;

namespace avec {
namespace {

using enum SettingType;
using enum SettingSide;

// Sorted by key. The initial value must parse as its type.
constexpr std::array kTable{
    Setting{"audit", kFlag, kExecutor, "true", "", "Log a line for each session that has ended, at every log level: who, from where, on which device, how long, how many bytes, how it ended."},
    Setting{"bind-address-ranges", kFlag, kClient, "true", "", "Reserve the common address ranges at connect; off only for debugging."},
    Setting{"cache-dir", kPath, kExecutor, "", "", "Folder for module images by content hash; empty: $XDG_CACHE_HOME/avec."},
    Setting{"coherence", kChoice, kClient, "auto", "auto|all|off", "Host memory that kernels use too: auto covers managed and mapped memory, and pinned buffers that a kernel is given; all covers every pinned buffer, for pointers inside structures; off none."},
    Setting{"config", kPath, kBoth, "", "", "The settings file to read instead of the usual places (environment only)."},
    Setting{"confine", kFlag, kExecutor, "true", "", "Workers give up privileges, core dumps and the system calls that they never need; off only for debugging."},
    Setting{"connect-deadline", kMilliseconds, kClient, "5000", "", "How long connecting, authenticating and the executor's first answer may take, ms."},
    Setting{"copy-threads", kUnsigned, kClient, "0", "", "Threads that copy large pageable memory for a transport with one-sided access, 1 to 64; 0: as many as help."},
    Setting{"cpu-device", kPath, kExecutor, "", "", "Path of libavec_cpu_device.so; empty: beside the avec program."},
    Setting{"cpu-device-dirty", kFlag, kExecutor, "false", "", "New memory of the CPU device holds remains of other uses, as a GPU's may, and not zeroes: for tests."},
    Setting{"cpu-device-memory", kUnsigned, kExecutor, "0", "", "Memory of each CPU device, bytes; 0: half of the machine's, at most 16 GiB."},
    Setting{"cpu-devices", kUnsigned, kExecutor, "1", "", "How many CPU devices there are, 1 to 8."},
    Setting{"cuda-driver", kPath, kExecutor, "libcuda.so.1", "", "Driver library of the cuda device."},
    Setting{"device", kChoice, kBoth, "auto", "auto|cuda|cpu", "Device kind: auto takes the GPU where there is one."},
    Setting{"drain", kUnsigned, kExecutor, "30", "", "How long sessions may go on once avec serve is told to stop (SIGTERM), s; then they are ended. 0: at once."},
    Setting{"executor", kText, kClient, "auto://127.0.0.1:7700", "", "URL of the executor that a client uses: auto:// (the best transport that both ends can), tcp://, rdma:// or shm://HOST:PORT; auto://, unix:// or shm:///PATH for a socket in a shared folder."},
    Setting{"gpudirect", kFlag, kExecutor, "false", "", "Large copies over RDMA go straight into and out of GPU memory, where adapter and driver can; not yet run on such hardware."},
    Setting{"insecure", kFlag, kExecutor, "false", "", "Listen without authentication, also beyond loopback."},
    Setting{"library-path", kText, kExecutor, "", "", "Folders, with colons between them, where NVIDIA's libraries (libcublas.so.13 ...) are looked for before the usual places."},
    Setting{"listen", kText, kExecutor, "tcp://127.0.0.1:7700", "", "URLs that avec serve listens on, with commas between them: tcp://HOST:PORT (port 0 chooses one), unix:///PATH."},
    Setting{"log-level", kChoice, kBoth, "info", "trace|debug|info|warn|error|off", "What is logged on stderr."},
    Setting{"rdma-device", kText, kBoth, "", "", "RDMA adapter and port to use, as mlx5_0 or mlx5_0:1; empty: the one that leads to the other end."},
    Setting{"refill-workers", kFlag, kExecutor, "true", "", "Start another worker ahead (spare-workers) for each that a session took."},
    Setting{"spare-workers", kUnsigned, kExecutor, "1", "", "Workers started ahead of their sessions, each with a context on the first device, so that sessions begin at once, 0 to 64."},
    Setting{"spin", kMicroseconds, kBoth, "50", "", "How long an adaptive waiter polls before it sleeps, us."},
    Setting{"stats", kText, kClient, "", "", "1: print at exit what each CUDA function cost, on stderr; otherwise the file to write, JSON when it ends in .json."},
    Setting{"tcp-streams", kUnsigned, kClient, "0", "", "TCP connections for payload of 512 KiB and more, 1 to 16; 1: that of the calls alone, 0: up to 4 by the number of cores, 1 where the round trip is over 1 ms."},
    Setting{"tls-ca", kPath, kBoth, "", "", "Certificates of the authorities that the other end's certificate must be of, PEM (avec keygen --ca makes one)."},
    Setting{"tls-certificate", kPath, kBoth, "", "", "This end's certificate, PEM, with those between it and the authority; goes with tls-key and tls-ca."},
    Setting{"tls-crl", kPath, kBoth, "", "", "Revocation list of the authority, PEM: certificates in it are refused."},
    Setting{"tls-key", kPath, kBoth, "", "", "The key of tls-certificate, PEM, readable by its owner only."},
    Setting{"tls-server-name", kText, kClient, "", "", "Name or address that the executor's certificate must be for; empty: that of the executor's URL."},
    Setting{"token-file", kPath, kBoth, "", "", "File with the secret shared by client and executor."},
    Setting{"trace", kText, kClient, "", "", "File to write at exit for ui.perfetto.dev: calls, wire, executor and device; %p in it becomes the process id."},
    Setting{"transport-encryption", kChoice, kBoth, "auto", "auto|on|off", "Encrypt what goes over the network: auto does where it leaves the machine and there is a token or a certificate, on over loopback too, off only authenticates."},
    Setting{"user", kText, kExecutor, "", "", "User whose rights workers have, when avec serve is started by root; empty: who started it."},
    Setting{"wait", kChoice, kBoth, "adaptive", "spin|adaptive|block", "How a thread waits for its peer."},
};
static_assert(std::ranges::is_sorted(kTable, {}, &Setting::key));

const Setting* find(std::string_view key) {
  auto it = std::ranges::lower_bound(kTable, key, {}, &Setting::key);
  return it != kTable.end() && it->key == key ? &*it : nullptr;
}

std::size_t index_of(std::string_view key) {
  const Setting* setting = find(key);
  if (setting == nullptr) std::abort();  // our own bug: a key that is not in the table
  return static_cast<std::size_t>(setting - kTable.data());
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

template <class Name>
std::string nearest(std::string_view wrong, Name name_of) {
  const Setting* best = &*std::ranges::min_element(kTable, {}, [&](const Setting& s) { return edit_distance(wrong, name_of(s.key)); });
  return std::string(name_of(best->key));
}

bool is_choice(std::string_view choices, std::string_view value) {
  for (std::size_t begin = 0; begin <= choices.size();) {
    const std::size_t end = std::min(choices.find('|', begin), choices.size());
    if (choices.substr(begin, end - begin) == value) return true;
    begin = end + 1;
  }
  return false;
}

bool parses(const Setting& setting, std::string& value, std::string& problem) {
  switch (setting.type) {
    case kText:
    case kPath:
      return true;
    case kFlag:
      if (value == "1" || value == "true" || value == "yes" || value == "on") value = "true";
      else if (value == "0" || value == "false" || value == "no" || value == "off") value = "false";
      else { problem = "write true or false"; return false; }
      return true;
    case kChoice:
      if (is_choice(setting.choices, value)) return true;
      problem = "write one of " + std::string(setting.choices);
      return false;
    case kUnsigned:
    case kMilliseconds:
    case kMicroseconds: {
      std::uint64_t number = 0;
      auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error == std::errc{} && end == value.data() + value.size() && number <= 86'400'000'000) return true;
      problem = "write a whole number, at most 86400000000";
      return false;
    }
  }
  return false;
}

std::string config_path(std::string_view wished) {
  if (!wished.empty()) return std::string(wished);
  std::error_code ignored;
  const char* xdg = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  std::string own = xdg != nullptr && *xdg != '\0' ? std::string(xdg) : home != nullptr ? std::string(home) + "/.config" : "";
  if (!own.empty() && std::filesystem::exists(own + "/avec/config.toml", ignored)) return own + "/avec/config.toml";
  if (std::filesystem::exists("/etc/avec/config.toml", ignored)) return "/etc/avec/config.toml";
  return "";
}

}  // namespace

std::string variable_of(std::string_view key) {
  std::string name = "AVEC_";
  for (char c : key) name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return name;
}

std::span<const Setting> setting_table() { return kTable; }

Settings Settings::load() {
  Settings settings;
  for (const Setting& setting : kTable) settings.values_.push_back({std::string(setting.initial), "default"});

  auto take = [&](const Setting& setting, std::string value, std::string_view origin, const std::string& name) {
    std::string problem;
    if (parses(setting, value, problem)) settings.values_[index_of(setting.key)] = {value, origin};
    else settings.warnings_.push_back(name + "=" + value + " is ignored: " + problem);
  };

  const char* wished = std::getenv("AVEC_CONFIG");
  if (const std::string path = config_path(wished != nullptr ? wished : ""); !path.empty()) {
    auto parsed = toml::parse_file(path);
    if (!parsed) {
      settings.warnings_.push_back("cannot read " + path + ": " + std::string(parsed.error().description()));
    } else {
      for (auto&& [key, node] : parsed.table()) {
        const Setting* setting = find(key.str());
        if (setting == nullptr) {
          settings.warnings_.push_back(path + ": unknown setting " + std::string(key.str()) + "; did you mean " +
                                       nearest(key.str(), [](std::string_view k) { return k; }) + "?");
          continue;
        }
        std::string value;
        if (auto text = node.value<std::string>()) value = *text;
        else if (auto flag = node.as_boolean()) value = flag->get() ? "true" : "false";
        else if (auto number = node.value<std::int64_t>()) value = std::to_string(*number);
        take(*setting, value, "file", path + ": " + std::string(key.str()));
      }
    }
  }

  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view line = *entry;
    if (!line.starts_with("AVEC_")) continue;
    const std::string name(line.substr(0, line.find('=')));
    if (name.size() == line.size()) continue;
    auto it = std::ranges::find_if(kTable, [&](const Setting& s) { return variable_of(s.key) == name; });
    if (it == kTable.end()) {
      settings.warnings_.push_back("unknown variable " + name + "; did you mean " + nearest(name, variable_of) + "?");
    } else {
      take(*it, std::string(line.substr(name.size() + 1)), "environment", name);
    }
  }
  return settings;
}

bool Settings::set(std::string_view key, std::string_view value, std::string& problem) {
  const Setting* setting = find(key);
  if (setting == nullptr) {
    problem = "unknown setting " + std::string(key) + "; did you mean " + nearest(key, [](std::string_view k) { return k; }) + "?";
    return false;
  }
  std::string text(value);
  if (!parses(*setting, text, problem)) return false;
  values_[index_of(key)] = {text, "command line"};
  return true;
}

std::string_view Settings::text(std::string_view key) const { return values_[index_of(key)].text; }

std::uint64_t Settings::number(std::string_view key) const {
  const std::string_view value = text(key);
  std::uint64_t number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number);
  return number;
}

bool Settings::flag(std::string_view key) const { return text(key) == "true"; }

std::string_view Settings::origin(std::string_view key) const { return values_[index_of(key)].origin; }

const Settings& client_settings() {
  static const Settings settings = [] {
    Settings loaded = Settings::load();
    for (const std::string& warning : loaded.warnings()) say("warning: " + warning);
    return loaded;
  }();
  return settings;
}

void say(std::string_view message) {
  std::string line = "avec: ";
  line += message;
  line += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace avec
