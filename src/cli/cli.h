// The avec program: what its subcommands share. Each subcommand is a function that takes the
// settings (command line applied) and returns the exit status.
#pragma once

#include <string>
#include <vector>

#include "base/settings.h"

namespace avec::cli {

/// Exit statuses beside those of the program that `run` starts.
inline constexpr int kUsage = 2;
inline constexpr int kNotFound = 127;
inline constexpr int kNotRunnable = 126;

struct RunOptions {
  bool local = false;
  std::vector<std::string> command;
};

struct KeygenOptions {
  std::string token, ca;
  std::vector<std::string> servers, clients, revoked;
  unsigned days = 825;
};

int serve(const Settings& settings);
int keygen(const KeygenOptions& options);
int run(const Settings& settings, const RunOptions& options);
int info(const Settings& settings, bool json);
int show_config(const Settings& settings);
/// Becomes avec_bench, the program beside this one; `arguments` are argv from "bench" on.
int bench(char** arguments);

/// This program's path, and the folder of the shims beside it (bin/avec -> lib/avec).
std::string own_path();
std::string library_folder();
/// The CPU device's driver library: the setting cpu-device, else beside the shims.
std::string cpu_device_path(const Settings& settings);

}  // namespace avec::cli
