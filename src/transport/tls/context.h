// What an end of a TLS connection authenticates with, as OpenSSL wants it. TLS 1.3 only: nothing older is
// spoken, no session is resumed, nothing is sent early.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "avec/transport.h"

struct ssl_ctx_st;
struct ssl_st;

namespace avec::tls {

/// Of what goes over the network.
enum class Encryption : std::uint8_t {
  kAuto,  ///< where it leaves the machine and there is something to authenticate with
  kOn,    ///< over loopback too; where it cannot be, there is no session
  kOff    ///< only as the other end demands it; authentication stays
};
Encryption encryption_of(std::string_view setting);

/// Names of the secrets of control connections and of data connections: one is no use for the other.
inline constexpr std::string_view kControlName = "avec", kDataName = "avec-data";

/// A secret of both ends. `name` goes over the network in clear; the key never does.
struct PreShared {
  std::string name;
  std::array<std::byte, 32> key{};
};

/// Certificates are PEM files: this end's with the chain below the authority, its key, the authorities that the
/// other end's must be of, and their revocation lists. With both a certificate and a secret a client shows the
/// certificate, and an executor takes either.
struct Credentials {
  std::string certificate, key, authority, revoked;
  std::optional<PreShared> secret;

  bool has_certificate() const { return !certificate.empty(); }
  bool any() const { return has_certificate() || secret.has_value(); }
};

/// Shared by the connections of one end. Any thread.
class Context {
 public:
  /// Reads the files. The error is a sentence that names the file and says what to do.
  static std::expected<std::shared_ptr<const Context>, std::string> make(End end, const Credentials& credentials);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// Borrowed.
  ssl_ctx_st* native() const { return context_; }
  End end() const { return end_; }
  bool by_certificate() const { return by_certificate_; }
  const std::optional<PreShared>& secret() const { return secret_; }

 private:
  Context(End end, const Credentials& credentials);
  std::expected<void, std::string> load(const Credentials& credentials);

  const End end_;
  const bool by_certificate_;
  const std::optional<PreShared> secret_;
  ssl_ctx_st* context_ = nullptr;
};

/// Demands that the peer's certificate is one for `host`, a name or an address.
bool expect_name(ssl_st* ssl, const std::string& host);
/// Who the peer has shown to be: the common name of its certificate, or "token".
std::string identity_of(ssl_st* ssl);
/// Bytes that only both ends of this connection know, for `label` and `about`.
bool export_key(ssl_st* ssl, std::string_view label, ConstBytes about, std::array<std::byte, 32>& key);
/// Why a handshake or a connection failed, a phrase that says what to do. `error`: of ERR_get_error().
std::string explain(ssl_st* ssl, unsigned long error, End end);
/// The same of an alert's number, as the peer sent it.
std::string_view alert_advice(int alert, End end);

/// What an end that speaks no TLS sends to one that begins it, so that the other knows why: a fatal alert.
inline constexpr std::array<unsigned char, 7> kNoTlsHere = {0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 120};

}  // namespace avec::tls
