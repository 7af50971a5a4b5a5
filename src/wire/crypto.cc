#include "wire/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <memory>

namespace avec::wire {
namespace {

const unsigned char* octets(ConstBytes bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

struct FreeMac {
  void operator()(EVP_MAC* mac) const { EVP_MAC_free(mac); }
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};

}  // namespace

Result<> random_bytes(MutableBytes bytes) {
  auto* out = reinterpret_cast<unsigned char*>(bytes.data());
  if (RAND_bytes(out, static_cast<int>(bytes.size())) != 1) return system_error(0, "asking for random bytes");
  return {};
}

Result<Digest> hmac(ConstBytes key, std::initializer_list<ConstBytes> parts) {
  const std::unique_ptr<EVP_MAC, FreeMac> mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  const std::unique_ptr<EVP_MAC_CTX, FreeMac> context(mac ? EVP_MAC_CTX_new(mac.get()) : nullptr);
  char name[] = "SHA256";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                                   OSSL_PARAM_construct_end()};
  // A null key would mean "the key set before": an empty one still has to have an address.
  static constexpr unsigned char kEmpty = 0;
  const unsigned char* key_octets = key.empty() ? &kEmpty : octets(key);
  bool good = context && EVP_MAC_init(context.get(), key_octets, key.size(), parameters) == 1;
  for (const ConstBytes part : parts) good = good && EVP_MAC_update(context.get(), octets(part), part.size()) == 1;
  Digest digest;
  std::size_t bytes = 0;
  good = good && EVP_MAC_final(context.get(), reinterpret_cast<unsigned char*>(digest.data()), &bytes,
                               digest.size()) == 1;
  if (!good || bytes != digest.size()) return system_error(0, "computing HMAC-SHA256");
  return digest;
}

bool same_secret(ConstBytes a, ConstBytes b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Result<ContentHash> content_hash(ConstBytes bytes) {
  ContentHash hash;
  unsigned int size = 0;
  if (EVP_Digest(octets(bytes), bytes.size(), reinterpret_cast<unsigned char*>(&hash), &size, EVP_sha256(),
                 nullptr) != 1 ||
      size != sizeof hash) {
    return system_error(0, "computing SHA-256");
  }
  return hash;
}

}  // namespace avec::wire
