#include "certificates/authority.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/handle.h"

namespace avec::certificates {
namespace {

namespace fs = std::filesystem;

template <auto Free>
struct Freeing {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Certificate = std::unique_ptr<X509, Freeing<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freeing<EVP_PKEY_free>>;
using List = std::unique_ptr<X509_CRL, Freeing<X509_CRL_free>>;
using Memory = std::unique_ptr<BIO, Freeing<BIO_free>>;
using Serial = std::unique_ptr<ASN1_INTEGER, Freeing<ASN1_INTEGER_free>>;

constexpr std::chrono::days kAuthorityLifetime{3650};
// Clocks of two machines differ.
constexpr std::chrono::seconds kClockDifference{300};
constexpr std::size_t kMaxNames = 64;

std::unexpected<std::string> fails(const std::string& what) {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  const char* text = error == 0 ? nullptr : ERR_reason_error_string(error);
  return std::unexpected(what + (text != nullptr ? std::string(": ") + text : std::string()));
}

std::expected<void, std::string> write_file(const fs::path& path, std::string_view text, mode_t mode, bool replace) {
  // A list that is replaced is never seen half written.
  const fs::path target = replace ? fs::path(path.string() + ".new") : path;
  if (replace) ::unlink(target.c_str());
  const Descriptor file(::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!file && errno == EEXIST) return std::unexpected(path.string() + " exists; remove it first, or choose another name");
  const bool written = file && ::fchmod(file.get(), mode) == 0 &&
                       ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(file.get()) == 0 && (!replace || ::rename(target.c_str(), path.c_str()) == 0);
  if (!written) return std::unexpected("cannot write " + path.string() + ": " + std::strerror(errno));
  return {};
}

template <class Write>
std::string pem(Write write) {
  const Memory memory(BIO_new(BIO_s_mem()));
  if (!memory || write(memory.get()) != 1) return {};
  char* text = nullptr;
  const long bytes = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(bytes)};
}

std::string pem_of(X509* certificate) {
  return pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}
std::string pem_of(EVP_PKEY* key) {
  return pem([&](BIO* bio) { return PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}
std::string pem_of(X509_CRL* list) {
  return pem([&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, list); });
}


Memory open_file(const fs::path& path) { return Memory(BIO_new_file(path.c_str(), "r")); }

Key make_key(KeyKind kind) {
  return Key(kind == KeyKind::kP256 ? EVP_EC_gen("P-256") : EVP_RSA_gen(1024U));
}

bool set_serial(X509* certificate) {
  std::array<unsigned char, 16> random{};
  if (RAND_bytes(random.data(), random.size()) != 1) return false;
  random[0] &= 0x7f;
  random[0] |= 0x40;  // neither negative nor zero
  BIGNUM* number = BN_bin2bn(random.data(), random.size(), nullptr);
  const bool good = number != nullptr && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nullptr;
  BN_free(number);
  return good;
}

bool set_name(X509_NAME* name, const std::string& text) {
  return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(text.data()),
                                    static_cast<int>(text.size()), -1, 0) == 1;
}

bool extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  const bool good = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return good;
}

bool is_address(const std::string& name) {
  std::array<unsigned char, 16> ignored;
  return ::inet_pton(AF_INET, name.c_str(), ignored.data()) == 1 || ::inet_pton(AF_INET6, name.c_str(), ignored.data()) == 1;
}

/// Letters that mean nothing else in a file's name or in OpenSSL's lists.
bool is_name(const std::string& name) {
  if (name.empty() || name.size() > 63 || name.front() == '.' || name.front() == '-') return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:@*") == std::string::npos;
}

std::string alternative_names(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) {
    if (!list.empty()) list += ',';
    list += is_address(name) ? "IP:" : "DNS:";
    list += name;
  }
  return list;
}

bool sign(X509* certificate, std::chrono::seconds begins, std::chrono::seconds lifetime, EVP_PKEY* of_subject,
          EVP_PKEY* of_issuer) {
  return X509_gmtime_adj(X509_getm_notBefore(certificate), begins.count()) != nullptr &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), (begins + lifetime).count()) != nullptr &&
         X509_set_pubkey(certificate, of_subject) == 1 && X509_sign(certificate, of_issuer, EVP_sha256()) > 0;
}

}  // namespace

struct Authority::State {
  fs::path folder;
  Certificate certificate;
  Key key;

  Outcome<> make();
  Outcome<> load();
  Outcome<> write_list(List list);
};

Authority::Authority(std::unique_ptr<State> state) : state_(std::move(state)) {}
Authority::Authority(Authority&&) noexcept = default;
Authority& Authority::operator=(Authority&&) noexcept = default;
Authority::~Authority() = default;

fs::path Authority::certificate() const { return state_->folder / "ca.pem"; }
fs::path Authority::list() const { return state_->folder / "crl.pem"; }

Authority::Outcome<Authority> Authority::open(const fs::path& folder) {
  ERR_clear_error();
  auto state = std::make_unique<State>();
  state->folder = folder;
  std::error_code ignored;
  fs::create_directories(folder, ignored);
  const bool exists = fs::exists(folder / "ca.pem", ignored);
  if (auto opened = exists ? state->load() : state->make(); !opened) return std::unexpected(opened.error());
  return Authority(std::move(state));
}

Authority::Outcome<> Authority::State::make() {
  key = make_key(KeyKind::kP256);
  certificate.reset(X509_new());
  X509* own = certificate.get();
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  const bool good = own != nullptr && key && X509_set_version(own, X509_VERSION_3) == 1 && set_serial(own) &&
                    set_name(X509_get_subject_name(own), "avec authority") &&
                    X509_set_issuer_name(own, X509_get_subject_name(own)) == 1 && X509_set_pubkey(own, key.get()) == 1 &&
                    extend(own, own, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    extend(own, own, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                    extend(own, own, NID_subject_key_identifier, "hash") &&
                    sign(own, -kClockDifference, kAuthorityLifetime, key.get(), key.get());
  if (!good) return fails("making an authority");
  if (auto written = write_file(folder / "ca-key.pem", pem_of(key.get()), 0600, false); !written) return written;
  if (auto written = write_file(folder / "ca.pem", pem_of(own), 0644, false); !written) return written;
  return write_list(List(X509_CRL_new()));
}

Authority::Outcome<> Authority::State::load() {
  const Memory own = open_file(folder / "ca.pem"), secret = open_file(folder / "ca-key.pem");
  if (own) certificate.reset(PEM_read_bio_X509(own.get(), nullptr, nullptr, nullptr));
  if (secret) key.reset(PEM_read_bio_PrivateKey(secret.get(), nullptr, nullptr, nullptr));
  if (!certificate || !key || X509_check_private_key(certificate.get(), key.get()) != 1)
    return fails("cannot use the authority in " + folder.string() + " (ca.pem, ca-key.pem)");
  return {};
}

/// Signs the list anew.
Authority::Outcome<> Authority::State::write_list(List list) {
  std::unique_ptr<ASN1_TIME, Freeing<ASN1_TIME_free>> now(X509_gmtime_adj(nullptr, -kClockDifference.count()));
  std::unique_ptr<ASN1_TIME, Freeing<ASN1_TIME_free>> next(
      X509_gmtime_adj(nullptr, std::chrono::seconds(kAuthorityLifetime).count()));
  const bool good = list && now && next && X509_CRL_set_version(list.get(), X509_CRL_VERSION_2) == 1 &&
                    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate.get())) == 1 &&
                    X509_CRL_set1_lastUpdate(list.get(), now.get()) == 1 &&
                    X509_CRL_set1_nextUpdate(list.get(), next.get()) == 1 && X509_CRL_sort(list.get()) == 1 &&
                    X509_CRL_sign(list.get(), key.get(), EVP_sha256()) > 0;
  if (!good) return fails("signing the revocation list");
  return write_file(folder / "crl.pem", pem_of(list.get()), 0644, true);
}

Authority::Outcome<Files> Authority::issue(const Request& request) {
  ERR_clear_error();
  if (request.names.empty() || request.names.size() > kMaxNames) return std::unexpected("a certificate has 1 to 64 names");
  for (const std::string& name : request.names)
    if (!is_name(name)) return std::unexpected(fmt::format("'{}' cannot be a certificate's name: letters, digits, . - _ : @", name));
  const std::string& name = request.names.front();
  if (name == "ca" || name == "crl") return std::unexpected(fmt::format("'{}' is the authority's own name: choose another", name));
  const Files files{state_->folder / (name + ".pem"), state_->folder / (name + "-key.pem")};
  const Key key = make_key(request.key);
  const Certificate made(X509_new());
  X509* certificate = made.get();
  X509* issuer = state_->certificate.get();
  const bool server = request.usage == Usage::kServer;
  const bool good = certificate != nullptr && key && X509_set_version(certificate, X509_VERSION_3) == 1 &&
                    set_serial(certificate) && set_name(X509_get_subject_name(certificate), name) &&
                    X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
                    X509_set_pubkey(certificate, key.get()) == 1 &&
                    extend(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                    extend(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
                    extend(certificate, issuer, NID_ext_key_usage, server ? "serverAuth" : "clientAuth") &&
                    extend(certificate, issuer, NID_subject_key_identifier, "hash") &&
                    extend(certificate, issuer, NID_authority_key_identifier, "keyid") &&
                    (!server || extend(certificate, issuer, NID_subject_alt_name, alternative_names(request.names))) &&
                    sign(certificate, request.begins - kClockDifference, request.lifetime, key.get(), state_->key.get());
  if (!good) return fails("making a certificate for " + name);
  if (auto written = write_file(files.key, pem_of(key.get()), 0600, false); !written) return std::unexpected(written.error());
  if (auto written = write_file(files.certificate, pem_of(certificate), 0644, false); !written)
    return std::unexpected(written.error());
  return files;
}

Authority::Outcome<> Authority::revoke(const fs::path& path) {
  ERR_clear_error();
  const Memory file = open_file(path), list_file = open_file(list());
  const Certificate certificate(file ? PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!certificate) return fails("cannot read the certificate " + path.string());
  if (X509_verify(certificate.get(), state_->key.get()) != 1)
    return std::unexpected(path.string() + " is not of the authority in " + state_->folder.string());
  List list(list_file ? PEM_read_bio_X509_CRL(list_file.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!list) return fails("cannot read the revocation list " + this->list().string());
  X509_REVOKED* known = nullptr;
  if (X509_CRL_get0_by_serial(list.get(), &known, X509_get_serialNumber(certificate.get())) == 1) return {};
  X509_REVOKED* entry = X509_REVOKED_new();
  std::unique_ptr<ASN1_TIME, Freeing<ASN1_TIME_free>> now(X509_gmtime_adj(nullptr, 0));
  const bool good = entry != nullptr && now &&
                    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.get())) == 1 &&
                    X509_REVOKED_set_revocationDate(entry, now.get()) == 1 && X509_CRL_add0_revoked(list.get(), entry) == 1;
  if (!good) {
    X509_REVOKED_free(entry);
    return fails("revoking " + path.string());
  }
  return state_->write_list(std::move(list));
}

std::expected<void, std::string> make_token(const fs::path& file) {
  std::array<unsigned char, 32> random{};
  if (RAND_bytes(random.data(), random.size()) != 1) return fails("asking for random bytes");
  std::string text;
  for (const unsigned char byte : random) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return write_file(file, text + "\n", 0600, false);
}

}  // namespace avec::certificates
