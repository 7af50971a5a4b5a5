#include "transport/tls/context.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cstring>
#include <vector>

namespace avec::tls {
namespace {

constexpr char kSuites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
// Bytes that one read of a socket may bring: several records.
constexpr std::size_t kReadBytes = 128u << 10;
// Of keys and signatures: 112 bits, RSA of 2048 bits and more, no SHA-1.
constexpr int kSecurityLevel = 2;
constexpr int kChainDepth = 4;

/// Where an SSL_CTX keeps its Context. Not the application's data: Asio takes that for its own.
int context_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

const Context* context_of(SSL* ssl) {
  return static_cast<const Context*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index()));
}

/// A session that has never been, as TLS 1.3 wants a pre-shared key to be told.
SSL_SESSION* session_of(SSL* ssl, const PreShared& secret) {
  static constexpr unsigned char kAes128GcmSha256[] = {0x13, 0x01};
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kAes128GcmSha256);
  SSL_SESSION* session = SSL_SESSION_new();
  const auto* key = reinterpret_cast<const unsigned char*>(secret.key.data());
  if (session != nullptr && cipher != nullptr && SSL_SESSION_set1_master_key(session, key, secret.key.size()) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
    return session;
  SSL_SESSION_free(session);
  return nullptr;
}

int use_secret(SSL* ssl, const EVP_MD* digest, const unsigned char** name, std::size_t* bytes, SSL_SESSION** session) {
  const auto& secret = context_of(ssl)->secret();
  *session = nullptr;
  if (!secret || (digest != nullptr && EVP_MD_get_size(digest) != 32)) return 1;
  *session = session_of(ssl, *secret);
  *name = reinterpret_cast<const unsigned char*>(secret->name.data());
  *bytes = secret->name.size();
  return *session != nullptr ? 1 : 0;
}

int find_secret(SSL* ssl, const unsigned char* name, std::size_t bytes, SSL_SESSION** session) {
  const auto& secret = context_of(ssl)->secret();
  *session = nullptr;
  if (!secret || bytes != secret->name.size() || std::memcmp(name, secret->name.data(), bytes) != 0) return 1;
  *session = session_of(ssl, *secret);
  return *session != nullptr ? 1 : 0;
}

std::string last_reason() {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(error)) return std::strerror(ERR_GET_REASON(error));
  const char* text = error == 0 ? nullptr : ERR_reason_error_string(error);
  return text != nullptr ? text : "unknown reason";
}

std::unexpected<std::string> fails(std::string_view what, const std::string& path) {
  return std::unexpected(std::string(what) + " " + path + ": " + last_reason());
}

}  // namespace

Encryption encryption_of(std::string_view setting) {
  return setting == "on" ? Encryption::kOn : setting == "off" ? Encryption::kOff : Encryption::kAuto;
}

Context::Context(End end, const Credentials& credentials)
    : end_(end), by_certificate_(credentials.has_certificate()), secret_(credentials.secret) {}

Context::~Context() { SSL_CTX_free(context_); }

std::expected<std::shared_ptr<const Context>, std::string> Context::make(End end, const Credentials& credentials) {
  std::shared_ptr<Context> context(new Context(end, credentials));
  if (auto loaded = context->load(credentials); !loaded) return std::unexpected(loaded.error());
  return context;
}

std::expected<void, std::string> Context::load(const Credentials& credentials) {
  ERR_clear_error();
  context_ = SSL_CTX_new(end_ == End::kClient ? TLS_client_method() : TLS_server_method());
  if (context_ == nullptr || SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context_, kSuites) != 1 || SSL_CTX_set1_groups_list(context_, "X25519:P-256") != 1)
    return std::unexpected("OpenSSL cannot do TLS 1.3: " + last_reason());
  if (SSL_CTX_set_ex_data(context_, context_index(), this) != 1) return std::unexpected(std::string("out of memory"));
  SSL_CTX_set_security_level(context_, kSecurityLevel);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_verify_depth(context_, kChainDepth);
  static constexpr unsigned char kSessions[] = "avec";  // none is resumed, but OpenSSL wants them told apart
  if (end_ == End::kExecutor) SSL_CTX_set_session_id_context(context_, kSessions, sizeof kSessions - 1);
  SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context_, 0);
  SSL_CTX_set_options(context_, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context_, 1);
  SSL_CTX_set_default_read_buffer_len(context_, kReadBytes);
  if (secret_ && !(end_ == End::kClient && by_certificate_)) {
    if (end_ == End::kClient)
      SSL_CTX_set_psk_use_session_callback(context_, use_secret);
    else
      SSL_CTX_set_psk_find_session_callback(context_, find_secret);
  }
  if (!by_certificate_) {
    if (secret_) return {};
    return std::unexpected("nothing to authenticate with: set token-file, or tls-certificate, tls-key and tls-ca");
  }
  if (credentials.key.empty() || credentials.authority.empty())
    return std::unexpected("tls-certificate goes with tls-key and tls-ca: set all three (avec keygen makes them)");
  if (SSL_CTX_use_certificate_chain_file(context_, credentials.certificate.c_str()) != 1)
    return fails("the certificate", credentials.certificate);
  struct stat status {};
  if (::stat(credentials.key.c_str(), &status) == 0 && (status.st_mode & (S_IROTH | S_IWOTH)) != 0)
    return std::unexpected("the key " + credentials.key +
                           ": open to every user of this machine; run: chmod 600 " + credentials.key);
  if (SSL_CTX_use_PrivateKey_file(context_, credentials.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context_) != 1)
    return fails("the key", credentials.key);
  if (SSL_CTX_load_verify_file(context_, credentials.authority.c_str()) != 1)
    return fails("the authorities", credentials.authority);
  if (end_ == End::kExecutor) {
    // Tells clients whose certificates are wanted.
    if (STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(credentials.authority.c_str()))
      SSL_CTX_set_client_CA_list(context_, names);
  }
  X509_STORE* store = SSL_CTX_get_cert_store(context_);
  if (credentials.revoked.empty()) return {};
  X509_LOOKUP* lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
  if (lookup == nullptr || X509_load_crl_file(lookup, credentials.revoked.c_str(), X509_FILETYPE_PEM) < 1)
    return fails("the revocation list", credentials.revoked);
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
  return {};
}

bool expect_name(SSL* ssl, const std::string& host) {
  std::array<unsigned char, 16> address;
  const bool numeric = ::inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
                       ::inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
  X509_VERIFY_PARAM* wanted = SSL_get0_param(ssl);
  if (numeric) return X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) == 1;
  X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(wanted, host.c_str(), host.size()) == 1 &&
         SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
}

std::string identity_of(SSL* ssl) {
  X509* certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr) return "token";
  std::array<char, 256> name{};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name.data(), name.size());
  std::string text = name.data();
  for (char& letter : text)
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
  return text.empty() ? "a certificate without a name" : text;
}

bool export_key(SSL* ssl, std::string_view label, ConstBytes about, std::array<std::byte, 32>& key) {
  return SSL_export_keying_material(ssl, reinterpret_cast<unsigned char*>(key.data()), key.size(), label.data(),
                                    label.size(), reinterpret_cast<const unsigned char*>(about.data()), about.size(),
                                    1) == 1;
}

// ---- what went wrong -------------------------------------------------------------------

std::string_view alert_advice(int alert, End end) {
  const bool client = end == End::kClient;
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN:
      return client ? "the executor does not accept this client's certificate: make one with avec keygen --client"
                    : "the client does not accept this executor's certificate: is it for the name that the client uses?";
    case SSL_AD_CERTIFICATE_REVOKED:
      return client ? "this client's certificate has been revoked: ask the operator for another"
                    : "the client says that this executor's certificate has been revoked";
    case SSL_AD_CERTIFICATE_EXPIRED:
      return client ? "this client's certificate is not valid now: look at its dates and at both clocks"
                    : "the client says that this executor's certificate is not valid now: look at its dates and both clocks";
    case SSL_AD_UNKNOWN_CA:
      return client ? "the executor does not know the authority of this client's certificate: make it with the "
                      "executor's (avec keygen --ca)"
                    : "the client does not know the authority of this executor's certificate: give it ca.pem as tls-ca";
    case SSL_AD_CERTIFICATE_REQUIRED:
      return "the executor wants a certificate: set tls-certificate, tls-key and tls-ca";
    case SSL_AD_PROTOCOL_VERSION:
      return "the other end does not speak TLS 1.3";
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_INSUFFICIENT_SECURITY:
      return client ? "the executor authenticates in another way: it has certificates and this client a token, or the "
                      "other way round"
                    : "the client authenticates in another way than this executor";
    case SSL_AD_ILLEGAL_PARAMETER:
    case SSL_AD_DECRYPT_ERROR:
    case SSL_AD_UNKNOWN_PSK_IDENTITY:
      return "the token is not the one of the other end: compare the token files of both machines";
    case SSL_AD_NO_APPLICATION_PROTOCOL:
      return "the executor does not use TLS: start it with --token-file or certificates, or, on a network that you "
             "trust, unset them here";
    default:
      return {};
  }
}

std::string explain(SSL* ssl, unsigned long error, End end) {
  const long verified = ssl != nullptr ? SSL_get_verify_result(ssl) : X509_V_OK;
  const int reason = ERR_GET_REASON(error);
  const std::string_view peer = end == End::kClient ? "the executor" : "the client";
  if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    std::string text(peer);
    text += "'s certificate is refused: ";
    text += X509_verify_cert_error_string(verified);
    switch (verified) {
      case X509_V_ERR_HOSTNAME_MISMATCH:
      case X509_V_ERR_IP_ADDRESS_MISMATCH:
        text += "; connect to a name that it is for, or set tls-server-name";
        break;
      case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
      case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        text += "; it must be of the authority in tls-ca";
        break;
      case X509_V_ERR_CERT_HAS_EXPIRED:
      case X509_V_ERR_CERT_NOT_YET_VALID:
        text += "; look at its dates and at both clocks";
        break;
      default:
        break;
    }
    return text;
  }
  if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255) {
    if (const auto advice = alert_advice(reason - SSL_AD_REASON_OFFSET, end); !advice.empty()) return std::string(advice);
  }
  if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
    switch (reason) {
      case SSL_R_UNSUPPORTED_PROTOCOL:
      case SSL_R_UNKNOWN_PROTOCOL:
      case SSL_R_VERSION_TOO_LOW:
      case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return std::string(peer) + " does not speak TLS 1.3";
      case SSL_R_WRONG_VERSION_NUMBER:
      case SSL_R_HTTP_REQUEST:
      case SSL_R_HTTPS_PROXY_REQUEST:
        return std::string(peer) + " does not speak TLS";
      case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return "the client has shown no certificate: set tls-certificate, tls-key and tls-ca there";
      case SSL_R_BINDER_DOES_NOT_VERIFY:
      case SSL_R_BAD_PSK:
        return "the client's token is not this executor's: compare the token files of both machines";
      case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      case SSL_R_NO_SHARED_CIPHER:
        return "the client has shown neither the token nor a certificate that could be asked for";
      case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return std::string(peer) + " ended the connection in the middle";
      default:
        break;
    }
  }
  if (error == 0) return std::string(peer) + " ended the connection in the middle";
  const char* text = ERR_reason_error_string(error);
  return std::string("TLS failed: ") + (text != nullptr ? text : "unknown reason");
}

}  // namespace avec::tls
