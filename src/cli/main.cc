// avec run | serve | info.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "cli/cli.h"
#include "executor/worker/main.h"

namespace {

using avec::Setting;
using avec::Settings;
using avec::SettingSide;
using avec::SettingType;

/// Adds an option for each setting of one side, so that the table is the only list.
void add_settings(CLI::App& command, Settings& settings, SettingSide side, bool& failed) {
  for (const Setting& setting : avec::setting_table()) {
    if (setting.key == "config" || (setting.side != side && setting.side != SettingSide::kBoth)) continue;
    const std::string key(setting.key);
    std::string names = "--" + key;
    if (key == "executor") names = "-e," + names;
    auto apply = [key, &settings, &failed](const std::string& value) {
      std::string problem;
      if (settings.set(key, value, problem)) return;
      avec::say("--" + key + " " + value + ": " + problem);
      failed = true;
    };
    CLI::Option* option = setting.type == SettingType::kFlag && setting.initial == "false"
                              ? command.add_flag_callback(names, [apply] { apply("true"); }, std::string(setting.help))
                              : command.add_option_function<std::string>(names, apply, std::string(setting.help));
    if (!setting.choices.empty()) option->type_name(std::string(setting.choices));
  }
}

/// A secret among avec's own arguments, which everybody on this machine can read. Overwritten, and refused.
bool takes_secret(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view word = argv[i];
    const bool keygen = std::string_view(argv[1]) == "keygen";
    if (keygen || (word != "--token" && !word.starts_with("--token="))) continue;
    char* secret = word == "--token" ? argv[i + 1] : argv[i] + std::string_view("--token=").size();
    if (secret != nullptr) std::fill_n(secret, std::string_view(secret).size(), '*');
    avec::say("a secret on the command line can be read by every user of this machine: write it to a file "
              "(avec keygen --token FILE) and give --token-file FILE");
    return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "worker") return avec::worker::main(argc - 2, argv + 2);
  if (argc > 1 && std::string_view(argv[1]) == "bench") return avec::cli::bench(argv + 1);

  if (takes_secret(argc, argv)) return avec::cli::kUsage;
  Settings settings = Settings::load();
  bool failed = false;
  CLI::App app("Runs CUDA programs on another machine's GPU.\n\n"
               "  avec keygen --token secret                                     makes a secret for both machines\n"
               "  avec serve --token-file secret --listen tcp://0.0.0.0:7700     on the machine with the GPU\n"
               "  avec run --token-file secret -e tcp://edge:7700 -- ./program   on the machine without\n"
               "  avec run --local -- ./program                                  both at once, to try it");
  app.name("avec");
  app.set_version_flag("--version", "avec " AVEC_RELEASE);
  app.require_subcommand(1);

  CLI::App* serve = app.add_subcommand("serve", "Offers this machine's device to clients.");
  add_settings(*serve, settings, SettingSide::kExecutor, failed);

  avec::cli::RunOptions run_options;
  CLI::App* run = app.add_subcommand("run", "Runs a CUDA program on an executor's device.");
  add_settings(*run, settings, SettingSide::kClient, failed);
  run->add_flag("--local", run_options.local, "Start an executor on this machine for as long as the program runs; -e SCHEME:// chooses the transport to it.");
  run->add_option("command", run_options.command, "The program and its arguments, after --.")->required();
  run->positionals_at_end();
  run->prefix_command(false);

  avec::cli::KeygenOptions key_options;
  CLI::App* keygen = app.add_subcommand("keygen", "Makes a token, or an authority and certificates of it.");
  keygen->add_option("--token", key_options.token, "File for a new token, the secret of both machines.");
  keygen->add_option("--ca", key_options.ca, "Folder of the authority: made there if there is none.");
  keygen->add_option("--server", key_options.servers, "Names and addresses of an executor, with commas between them: makes a certificate.")->needs("--ca");
  keygen->add_option("--client", key_options.clients, "Name of a client: makes a certificate.")->needs("--ca");
  keygen->add_option("--revoke", key_options.revoked, "Name, or file, of a certificate that is not to be trusted any more.")->needs("--ca");
  keygen->add_option("--days", key_options.days, "How long certificates are valid, days.")->check(CLI::Range(1u, 3650u));

  // Listed only: bench has been started above, with all its arguments.
  app.add_subcommand("bench", "Measures what avec costs, each figure beside its yardstick (avec bench --help).");

  bool show_config = false, json = false;
  CLI::App* info = app.add_subcommand("info", "Shows an executor's devices, the link to it, and the settings.");
  add_settings(*info, settings, SettingSide::kClient, failed);
  info->add_flag("--config", show_config, "Show every setting, its value and where that comes from.");
  info->add_flag("--json", json, "Print JSON.");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : avec::cli::kUsage;
  }
  if (failed) return avec::cli::kUsage;
  // A client process prints the warnings itself, once it makes its first CUDA call.
  if (!run->parsed())
    for (const std::string& warning : settings.warnings()) avec::say("warning: " + warning);

  if (keygen->parsed()) return avec::cli::keygen(key_options);
  if (serve->parsed()) return avec::cli::serve(settings);
  if (run->parsed()) return avec::cli::run(settings, run_options);
  return show_config ? avec::cli::show_config(settings) : avec::cli::info(settings, json);
}
