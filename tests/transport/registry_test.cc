#include <algorithm>

#include "avec/transport.h"
#include "support/catch.h"

namespace avec {
namespace {

class OwnTransport final : public Transport {
 public:
  explicit OwnTransport(std::string scheme) : scheme_(std::move(scheme)) {}
  std::string_view scheme() const noexcept override { return scheme_; }
  TransportError viable(std::string& detail) const override {
    detail = "this transport is only a name";
    return {TransportErrc::kNotViable, 0};
  }
  ConnectResult connect(std::string_view, Deadline) noexcept override {
    return {nullptr, {TransportErrc::kNotViable, 0}, {}};
  }
  ListenResult listen(std::string_view) noexcept override {
    return {nullptr, {TransportErrc::kNotViable, 0}, {}};
  }

 private:
  std::string scheme_;
};

TEST_CASE("tcp, unix, shm and sim are built in and viable") {
  for (const char* url : {"tcp://127.0.0.1:7700", "unix:///run/avec.sock", "shm://127.0.0.1:7700", "sim://anything"}) {
    auto* transport = find_transport(url);
    REQUIRE(transport);
    std::string detail;
    CHECK(transport->viable(detail).code == TransportErrc::kNone);
    CHECK(detail.empty());
  }
  const auto schemes = transport_schemes();
  CHECK(std::is_sorted(schemes.begin(), schemes.end()));
  CHECK(std::count(schemes.begin(), schemes.end(), "tcp") == 1);
}

TEST_CASE("an own transport is found by its scheme, and a scheme is taken once") {
  CHECK(register_transport(std::make_unique<OwnTransport>("own")));
  CHECK_FALSE(register_transport(std::make_unique<OwnTransport>("own")));
  CHECK_FALSE(register_transport(std::make_unique<OwnTransport>("tcp")));
  CHECK_FALSE(register_transport(std::make_unique<OwnTransport>("")));
  CHECK_FALSE(register_transport(std::make_unique<OwnTransport>("a:b")));
  CHECK_FALSE(register_transport(nullptr));
  auto* own = find_transport("own://x");
  REQUIRE(own);
  CHECK(own->scheme() == "own");
}

TEST_CASE("an unknown scheme and a text without one have no transport") {
  CHECK_FALSE(find_transport("carrier-pigeon://loft"));
  CHECK_FALSE(find_transport("tcp"));
  CHECK_FALSE(find_transport("tcp:/127.0.0.1"));
  CHECK_FALSE(find_transport("://x"));
  CHECK_FALSE(find_transport(""));
}

TEST_CASE("every error has its own words") {
  std::vector<std::string_view> words;
  for (int code = 0; code <= static_cast<int>(TransportErrc::kInternal); ++code) {
    words.push_back(to_string(static_cast<TransportErrc>(code)));
    CHECK_FALSE(words.back().empty());
  }
  std::sort(words.begin(), words.end());
  CHECK(std::adjacent_find(words.begin(), words.end()) == words.end());
  CHECK(to_string(static_cast<TransportErrc>(200)) == "unknown error");
}

}  // namespace
}  // namespace avec
