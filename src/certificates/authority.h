// A small certificate authority in a folder: its own certificate and key, those that it issues, and the list of
// those that it has revoked. What avec keygen makes; TLS itself does not need it.
#pragma once

#include <chrono>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace avec::certificates {

enum class Usage : std::uint8_t { kServer, kClient };
enum class KeyKind : std::uint8_t { kP256, kRsa1024 };  ///< the second is too weak, and for tests

/// A certificate that is wished.
struct Request {
  /// The first is its common name and names its files; a server's are those by which clients reach it: names and
  /// addresses.
  std::vector<std::string> names;
  Usage usage = Usage::kClient;
  std::chrono::days begins{0};  ///< from now; a little earlier, for clocks differ
  std::chrono::days lifetime{825};
  KeyKind key = KeyKind::kP256;
};

/// Where a certificate and its key lie.
struct Files {
  std::filesystem::path certificate, key;
};

/// Errors are sentences for people. Keys have the mode 0600; nothing that exists is overwritten but the list.
class Authority {
 public:
  template <class T = void>
  using Outcome = std::expected<T, std::string>;

  /// Opens the authority in `folder`, or makes one there (ca.pem, ca-key.pem, crl.pem).
  static Outcome<Authority> open(const std::filesystem::path& folder);
  Authority(Authority&&) noexcept;
  Authority& operator=(Authority&&) noexcept;
  ~Authority();

  /// Makes NAME.pem and NAME-key.pem.
  Outcome<Files> issue(const Request& request);
  /// Adds the certificate in a file to the list.
  Outcome<> revoke(const std::filesystem::path& certificate);

  std::filesystem::path certificate() const;
  std::filesystem::path list() const;

 private:
  struct State;
  explicit Authority(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Writes 256 random bits as text to a new file of the mode 0600.
std::expected<void, std::string> make_token(const std::filesystem::path& file);

}  // namespace avec::certificates
