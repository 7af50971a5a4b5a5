// avec keygen: what two machines authenticate each other with, in one command.
#include <fmt/format.h>

#include "certificates/authority.h"
#include "cli/cli.h"

namespace avec::cli {
namespace {

namespace fs = std::filesystem;
using certificates::Authority;
using certificates::Request;
using certificates::Usage;

/// "edge,192.0.2.7": names of one certificate.
std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> names;
  while (true) {
    const auto comma = list.find(',');
    names.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return names;
    list.remove_prefix(comma + 1);
  }
}

int fails(const std::string& why) {
  say(why);
  return 1;
}

/// Makes one certificate for each list of names. False: `status` is what to end with.
bool issue(Authority& authority, const std::vector<std::string>& lists, Usage usage, unsigned days, int& status) {
  for (const std::string& list : lists) {
    Request request;
    request.names = split(list);
    request.usage = usage;
    request.lifetime = std::chrono::days(days);
    const auto files = authority.issue(request);
    if (!files) {
      status = fails(files.error());
      return false;
    }
    const bool server = usage == Usage::kServer;
    fmt::print("{} {}:\n    {} --tls-certificate {} --tls-key {} --tls-ca {}{}\n", server ? "executor" : "client",
               request.names.front(), server ? "avec serve --listen tcp://0.0.0.0:7700" : "avec run", files->certificate.string(),
               files->key.string(), authority.certificate().string(),
               server ? " --tls-crl " + authority.list().string() : "");
  }
  return true;
}

}  // namespace

int keygen(const KeygenOptions& options) {
  if (options.token.empty() && options.ca.empty()) {
    say("name what to make: avec keygen --token FILE, or avec keygen --ca FOLDER --server NAME --client NAME");
    return kUsage;
  }
  if (!options.token.empty()) {
    if (auto made = certificates::make_token(options.token); !made) return fails(made.error());
    fmt::print("token {}: copy it to the other machine, and give --token-file {} to avec serve and avec run\n",
               options.token, options.token);
  }
  if (options.ca.empty()) return 0;
  auto authority = Authority::open(options.ca);
  if (!authority) return fails(authority.error());
  fmt::print("authority {}: its key, {}, stays on the machine that makes certificates\n", authority->certificate().string(),
             (fs::path(options.ca) / "ca-key.pem").string());
  int status = 0;
  if (!issue(*authority, options.servers, Usage::kServer, options.days, status) ||
      !issue(*authority, options.clients, Usage::kClient, options.days, status))
    return status;
  for (const std::string& name : options.revoked) {
    std::error_code ignored;
    const fs::path own = fs::path(options.ca) / (name + ".pem");
    const fs::path path = fs::exists(own, ignored) ? own : fs::path(name);
    if (auto revoked = authority->revoke(path); !revoked) return fails(revoked.error());
    fmt::print("revoked {}: give {} to avec serve as --tls-crl, and start it again\n", path.string(), authority->list().string());
  }
  return 0;
}

}  // namespace avec::cli
