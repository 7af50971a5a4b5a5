// Ways to be wrong: each is refused before a message is decoded, and both ends are told why.
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "certificates/authority.h"
#include "executor/broker/broker.h"
#include "executor/raw_client.h"
#include "session/connect.h"
#include "support/catch.h"
#include "transport/tcp/factory.h"

namespace avec::test {
namespace {

namespace fs = std::filesystem;
using certificates::Authority;
using certificates::Files;
using certificates::Request;
using certificates::Usage;
using std::chrono::days;

const std::string kToken = "a secret of sixteen bytes and more";

template <class Condition>
bool eventually(Condition&& condition) {
  for (const auto deadline = soon(); std::chrono::steady_clock::now() < deadline;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

/// Certificates of two authorities, made once.
struct Certificates {
  Certificates() {
    std::string path = (fs::temp_directory_path() / "avec-refusal-XXXXXX").string();
    REQUIRE(::mkdtemp(path.data()) != nullptr);
    folder = path;
    ours.emplace(Authority::open(folder / "ours").value());
    theirs.emplace(Authority::open(folder / "theirs").value());
    server = ours->issue({{"executor", "127.0.0.1", "localhost"}, Usage::kServer}).value();
    client = ours->issue({{"client"}, Usage::kClient}).value();
    stranger = theirs->issue({{"client"}, Usage::kClient}).value();
    strange_server = theirs->issue({{"executor", "127.0.0.1"}, Usage::kServer}).value();
    expired = ours->issue({{"expired"}, Usage::kClient, days(-10), days(5)}).value();
    early = ours->issue({{"early"}, Usage::kClient, days(10), days(5)}).value();
    expired_server = ours->issue({{"expired-executor", "127.0.0.1"}, Usage::kServer, days(-10), days(5)}).value();
    weak = ours->issue({{"weak"}, Usage::kClient, days(0), days(5), certificates::KeyKind::kRsa1024}).value();
    revoked = ours->issue({{"revoked"}, Usage::kClient}).value();
    revoked_server = ours->issue({{"revoked-executor", "127.0.0.1"}, Usage::kServer}).value();
    REQUIRE(ours->revoke(revoked.certificate));
    REQUIRE(ours->revoke(revoked_server.certificate));
  }
  ~Certificates() {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  tls::Credentials of(const Files& files) const {
    tls::Credentials credentials;
    credentials.certificate = files.certificate;
    credentials.key = files.key;
    credentials.authority = ours->certificate();
    return credentials;
  }
  fs::path folder;
  std::optional<Authority> ours, theirs;
  Files server, client, stranger, strange_server, expired, early, expired_server, weak, revoked, revoked_server;
};

const Certificates& certificates_() {
  static const Certificates made;
  return made;
}

/// A broker on a thread that records what it refuses and what it decodes.
class Serving {
 public:
  explicit Serving(const std::function<void(broker::Options&)>& change) {
    options_.listen = "tcp://127.0.0.1:0";
    options_.device = "cpu";
    options_.cpu_device = AVEC_CPU_DEVICE;
    options_.program = AVEC_WORKER_PROGRAM;
    options_.release = "test";
    options_.log_level = "off";
    change(options_);
    options_.listening = [this](const std::string& address) {
      address_ = address;
      ready_ = true;
    };
    options_.told = [this](broker::Event event, const std::string& what) {
      const std::scoped_lock lock(mutex_);
      if (event == broker::Event::kDecoding) ++decoded_;
      if (event == broker::Event::kRefused) refused_.push_back(what);
    };
    thread_ = std::thread([this] {
      const auto served = broker::run(options_, stopper_);
      problem_ = served ? "" : served.error();
      ready_ = true;
    });
    while (!ready_) std::this_thread::yield();
  }
  ~Serving() {
    stopper_.stop();
    thread_.join();
    CHECK(problem_ == "");
  }
  const std::string& address() const { return address_; }
  unsigned decoded() const {
    const std::scoped_lock lock(mutex_);
    return decoded_;
  }
  /// Waits until something has been refused, for a reason with these words.
  bool refused(const std::string& words) const {
    return eventually([&] {
      const std::scoped_lock lock(mutex_);
      for (const std::string& why : refused_) {
        UNSCOPED_INFO(why);
        if (why.find(words) != std::string::npos) return true;
      }
      return false;
    });
  }

 private:
  broker::Options options_;
  broker::Stopper stopper_;
  std::string address_, problem_;
  std::atomic<bool> ready_{false};
  mutable std::mutex mutex_;
  unsigned decoded_ = 0;
  std::vector<std::string> refused_;
  std::thread thread_;
};

void by_certificate(broker::Options& options) {
  options.credentials = certificates_().of(certificates_().server);
  options.credentials.revoked = certificates_().ours->list();
}
void by_token(broker::Options& options) {
  options.token = kToken;
  options.encryption = tls::Encryption::kOn;
}

session::Options client_of(const Serving& serving) {
  session::Options options;
  options.executor = serving.address();
  options.program = "refusal_test";
  return options;
}

/// The sentence with which a client is refused; empty: it is not.
std::string sentence(const session::Options& options) {
  const auto admitted = session::open_control(options, soon());
  return admitted ? "" : admitted.error().message;
}

bool says(const std::string& text, const std::string& words) {
  UNSCOPED_INFO(text);
  return text.find(words) != std::string::npos;
}

std::unique_ptr<Connection> connect(const std::string& address) {
  return find_transport(address)->connect(address, soon()).connection;
}

bool is_closed_by_peer(Connection& connection) {
  std::array<std::byte, 256> buffer;
  MutableBytes bytes(buffer);
  return eventually([&] { return static_cast<bool>(connection.receive({&bytes, 1}).error); });
}

/// A TLS client that does what ours does not; returns the alert that ends it, 0: none.
int alert_for(const Serving& serving, const std::function<void(SSL_CTX*)>& configure) {
  const auto connection = connect(serving.address());
  const int socket = tcp::native_descriptor(*connection);
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) & ~O_NONBLOCK);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_security_level(context, 0);
  configure(context);
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, socket);
  ERR_clear_error();
  char byte = 0;
  int alert = 0;
  if (SSL_connect(ssl) != 1 || SSL_read(ssl, &byte, 1) != 1) {
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    if (reason > SSL_AD_REASON_OFFSET) alert = reason - SSL_AD_REASON_OFFSET;
  }
  ERR_clear_error();
  SSL_free(ssl);
  SSL_CTX_free(context);
  return alert;
}

}  // namespace

TEST_CASE("A client with a certificate of the authority is admitted, encrypted, and known by name") {
  Serving serving(by_certificate);
  auto options = client_of(serving);
  options.credentials = certificates_().of(certificates_().client);
  auto admitted = session::open_control(options, soon());
  REQUIRE(admitted);
  CHECK(tcp::tls_of(*admitted->control)->identity() == "executor");
  // The way back is that of the session's key: a data connection over TLS.
  options.encryption = tls::Encryption::kOn;
  auto encrypted = session::open_control(options, soon());
  REQUIRE(encrypted);
  CHECK(encrypted->admission.encrypted);
  auto data = session::open_data(options, encrypted->admission, 0, soon());
  REQUIRE(data);
  CHECK(tcp::is_encrypted(**data));
  CHECK(session::receive_accept(**data, options, soon()).has_value());
}

TEST_CASE("Clients whose certificates are wrong are refused, and told why") {
  const auto& certificates = certificates_();
  struct Case {
    const char* what;
    Files files;
    const char* to_operator;
    const char* to_client;
  };
  const Case cases[] = {
      {"expired", certificates.expired, "certificate has expired", "not valid now"},
      {"not yet valid", certificates.early, "not yet valid", "does not accept this client's certificate"},
      {"of another authority", certificates.stranger, "must be of the authority", "does not know the authority"},
      {"revoked", certificates.revoked, "certificate revoked", "has been revoked"},
      {"self-signed", {certificates.theirs->certificate(), certificates.folder / "theirs" / "ca-key.pem"}, "self-signed certificate", "does not know the authority"},
      {"for an executor", certificates.server, "unsuitable certificate purpose", "does not accept this client's certificate"},
  };
  Serving serving(by_certificate);
  for (const Case& wrong : cases) {
    INFO(wrong.what);
    auto options = client_of(serving);
    options.credentials = certificates.of(wrong.files);
    CHECK(says(sentence(options), wrong.to_client));
    CHECK(serving.refused(wrong.to_operator));
    CHECK(serving.decoded() == 0);
  }
  auto right = client_of(serving);
  right.credentials = certificates.of(certificates.client);
  CHECK(sentence(right) == "");
}

TEST_CASE("Clients that speak an older TLS, show no certificate or a weak one, get an alert") {
  Serving serving(by_certificate);
  CHECK(alert_for(serving, [](SSL_CTX* context) { SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION); }) ==
        SSL_AD_PROTOCOL_VERSION);
  CHECK(serving.refused("does not speak TLS 1.3"));
  CHECK(alert_for(serving, [](SSL_CTX* context) {
          SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
          SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
          SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0");
        }) == SSL_AD_PROTOCOL_VERSION);
  CHECK(alert_for(serving, [](SSL_CTX*) {}) == SSL_AD_CERTIFICATE_REQUIRED);
  CHECK(serving.refused("shown no certificate"));
  CHECK(alert_for(serving, [](SSL_CTX* context) {
          REQUIRE(SSL_CTX_use_certificate_chain_file(context, certificates_().weak.certificate.c_str()) == 1);
          REQUIRE(SSL_CTX_use_PrivateKey_file(context, certificates_().weak.key.c_str(), SSL_FILETYPE_PEM) == 1);
        }) != 0);
  CHECK(serving.refused("key too weak"));
  CHECK(serving.decoded() == 0);
  // Ours does not even try.
  auto options = client_of(serving);
  options.credentials = certificates_().of(certificates_().weak);
  CHECK(says(sentence(options), "weak.pem"));
}

TEST_CASE("Bytes in clear, garbage and half a greeting get nowhere where TLS is wanted") {
  Serving serving(by_certificate);
  CHECK(says(sentence(client_of(serving)), "wants TLS"));
  CHECK(serving.refused("wants TLS"));
  auto garbage = connect(serving.address());
  worker::send_all(*garbage, std::as_bytes(std::span("GET / HTTP/1.1\r\n\r\n")), soon());
  CHECK(is_closed_by_peer(*garbage));
  CHECK(serving.refused("does not speak this protocol"));
  auto nonsense = connect(serving.address());
  std::vector<std::byte> bytes(200, std::byte{0xee});
  bytes[0] = std::byte{0x16};
  worker::send_all(*nonsense, bytes, soon());
  CHECK(is_closed_by_peer(*nonsense));
  CHECK(serving.refused("does not speak TLS"));
  {
    // A ClientHello that ends in the middle.
    static constexpr unsigned char kHalf[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0x55};
    auto half = connect(serving.address());
    worker::send_all(*half, std::as_bytes(std::span(kHalf)), soon());
  }
  CHECK(serving.refused("in the middle"));
  CHECK(serving.decoded() == 0);
}

TEST_CASE("A data connection's opening is worth nothing on a control connection of TLS") {
  Serving serving(by_token);
  auto control = connect(serving.address());
  tls::Credentials credentials;
  credentials.secret = tls::PreShared{std::string(tls::kControlName), *wire::token_key(kToken)};
  REQUIRE_FALSE(tcp::secure(*control, tls::Context::make(End::kClient, credentials).value(), {}, soon()));
  worker::send_all(*control, *wire::data_opening({}, {}, 0), soon());
  CHECK(is_closed_by_peer(*control));
  CHECK(serving.refused("a data connection where control was expected"));
  CHECK(serving.decoded() == 0);
}

TEST_CASE("A client refuses executors whose certificates are wrong") {
  const auto& certificates = certificates_();
  const auto refuses = [&](const Files& files, const std::string& words, const std::string& name = "", bool list = false) {
    Serving serving([&](broker::Options& options) { options.credentials = certificates.of(files); });
    auto options = client_of(serving);
    options.credentials = certificates.of(certificates.client);
    if (list) options.credentials.revoked = certificates.ours->list();
    options.server_name = name;
    CHECK(says(sentence(options), words));
    CHECK(serving.decoded() == 0);
  };
  refuses(certificates.expired_server, "expired");
  refuses(certificates.strange_server, "must be of the authority in tls-ca");
  refuses(certificates.client, "purpose");
  refuses(certificates.revoked_server, "revoked", "", true);
  refuses(certificates.server, "tls-server-name", "another.example");
  Serving serving(by_certificate);
  auto options = client_of(serving);
  options.credentials = certificates.of(certificates.client);
  options.server_name = "localhost";
  CHECK(sentence(options) == "");
}

TEST_CASE("A token opens an encrypted session; a wrong one, none, and a secret of another name do not") {
  Serving serving(by_token);
  auto options = client_of(serving);
  options.token = "another secret of sixteen bytes";
  CHECK(says(sentence(options), "compare the token files"));
  CHECK(serving.refused("compare the token files"));
  options.token.clear();
  CHECK(says(sentence(options), "wants TLS"));
  tls::Credentials other;
  other.secret = tls::PreShared{std::string(tls::kDataName), *wire::token_key(kToken)};
  auto control = connect(serving.address());
  CHECK(tcp::secure(*control, tls::Context::make(End::kClient, other).value(), {}, soon()));
  CHECK(serving.decoded() == 0);
  // The first attempt is in clear, as over loopback; the executor asks for TLS.
  options.token = kToken;
  const auto admitted = session::open_control(options, soon());
  REQUIRE(admitted);
  CHECK(admitted->admission.encrypted);
  CHECK(serving.decoded() == 1);
}

TEST_CASE("Tokens and certificates do not fit each other, and an executor without either says so") {
  const auto& certificates = certificates_();
  {
    Serving serving(by_certificate);
    auto options = client_of(serving);
    options.token = kToken;
    CHECK(sentence(options) != "");
    CHECK(serving.decoded() == 0);
  }
  {
    Serving serving(by_token);
    auto options = client_of(serving);
    options.credentials = certificates.of(certificates.client);
    CHECK(says(sentence(options), "authenticates in another way"));
    CHECK(serving.decoded() == 0);
  }
  Serving serving([](broker::Options& options) { options.insecure = true; });
  auto options = client_of(serving);
  options.credentials = certificates.of(certificates.client);
  CHECK(says(sentence(options), "does not use TLS"));
  CHECK(serving.refused("it speaks TLS"));
  options.credentials = {};
  options.token = kToken;
  options.encryption = tls::Encryption::kOn;
  CHECK(says(sentence(options), "does not use TLS"));
  CHECK(serving.decoded() == 0);
}

TEST_CASE("Without encryption authentication stays") {
  Serving serving([](broker::Options& options) {
    options.token = kToken;
    options.encryption = tls::Encryption::kOff;
  });
  auto options = client_of(serving);
  CHECK(says(sentence(options), "asks for a token"));
  options.token = "another secret of sixteen bytes";
  CHECK(sentence(options) != "");
  options.token = kToken;
  options.encryption = tls::Encryption::kOff;
  auto admitted = session::open_control(options, soon());
  REQUIRE(admitted);
  CHECK_FALSE(admitted->admission.encrypted);
  // Whoever wishes it has it.
  options.encryption = tls::Encryption::kOn;
  admitted = session::open_control(options, soon());
  REQUIRE(admitted);
  CHECK(admitted->admission.encrypted);
}

TEST_CASE("An executor that shall encrypt and has nothing to authenticate with does not start") {
  broker::Options options;
  options.listen = "tcp://127.0.0.1:0";
  options.device = "cpu";
  options.encryption = tls::Encryption::kOn;
  broker::Stopper stopper;
  stopper.stop();
  const auto served = broker::run(options, stopper);
  REQUIRE(!served);
  CHECK(says(served.error(), "avec keygen"));
}

// ---- data connections ------------------------------------------------------------------

namespace {

/// What a worker says to these bytes on a data connection; empty: it takes it.
std::string opening_refused(worker::Ticket& ticket, ConstBytes bytes) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  auto theirs = tcp::adopt(ends[0]), ours = tcp::adopt(ends[1]);
  worker::send_all(*theirs, bytes, soon());
  ::shutdown(tcp::native_descriptor(*theirs), SHUT_WR);
  const auto checked = worker::check_opening(ours, ticket, soon());
  return checked ? "" : checked.error().message;
}

}  // namespace

TEST_CASE("A ticket is worth something once per opening, in its session, for its purpose, in time") {
  const wire::TicketId id{std::byte{1}}, other{std::byte{2}};
  const wire::Digest key{std::byte{3}}, other_key{std::byte{4}};
  worker::Ticket ticket(id, key, false);
  const auto opening = *wire::data_opening(id, key, 0);
  CHECK(opening_refused(ticket, opening) == "");
  CHECK(says(opening_refused(ticket, opening), "opened before"));
  CHECK(opening_refused(ticket, *wire::data_opening(id, key, 0)) == "");
  CHECK(says(opening_refused(ticket, *wire::data_opening(other, other_key, 0)), "does not know the session's key"));
  CHECK(says(opening_refused(ticket, *wire::data_opening(id, other_key, 0)), "does not know the session's key"));
  auto as_stripe = *wire::data_opening(id, key, 0);
  as_stripe[8] = static_cast<std::byte>(wire::ConnectionKind::Stripe);
  CHECK(says(opening_refused(ticket, as_stripe), "does not know the session's key"));
  auto as_control = *wire::data_opening(id, key, 0);
  as_control[8] = static_cast<std::byte>(wire::ConnectionKind::Control);
  CHECK(opening_refused(ticket, as_control) != "");
  worker::Ticket late(id, key, false, std::chrono::seconds(-1));
  CHECK(says(opening_refused(late, *wire::data_opening(id, key, 0)), "expired"));
}

TEST_CASE("The serials of a long session are remembered, the oldest as a whole") {
  worker::Ticket ticket({}, {}, false);
  const auto opening = [](std::uint32_t serial) {
    return wire::Preamble(0, 0, 0, wire::ConnectionKind::Data, 0, 0, 0, serial,
                          flatbuffers::span<const std::uint8_t, 16>(std::array<std::uint8_t, 16>{}), 0);
  };
  for (std::uint32_t serial = 1; serial <= 2 * limits::kRememberedOpenings; ++serial) REQUIRE(ticket.use(opening(serial)));
  CHECK_FALSE(ticket.use(opening(1)));
  CHECK_FALSE(ticket.use(opening(limits::kRememberedOpenings)));
  CHECK_FALSE(ticket.use(opening(2 * limits::kRememberedOpenings)));
  CHECK(ticket.use(opening(2 * limits::kRememberedOpenings + 1)));
}

TEST_CASE("An encrypted session takes no data connection in clear, none played back, and none with another key") {
  const wire::TicketId id{std::byte{1}};
  const wire::Digest key{std::byte{3}};
  worker::Ticket ticket(id, key, true);
  CHECK(opening_refused(ticket, *wire::data_opening(id, key, 0)) != "");
  Serving serving(by_token);
  auto options = client_of(serving);
  options.token = kToken;
  auto admitted = session::open_control(options, soon());
  REQUIRE(admitted);
  auto stolen = admitted->admission;
  stolen.key[0] ^= std::byte{1};
  const auto refused = session::open_data(options, stolen, 0, soon());
  CHECK_FALSE(refused);
  stolen = admitted->admission;
  stolen.encrypted = false;
  auto in_clear = session::open_data(options, stolen, 0, soon());
  REQUIRE(in_clear);
  CHECK_FALSE(session::receive_accept(**in_clear, options, soon()));
  auto right = session::open_data(options, admitted->admission, 0, soon());
  REQUIRE(right);
  CHECK(session::receive_accept(**right, options, soon()).has_value());
}

TEST_CASE("A valid client gets in while a thousand sockets that say nothing hang on") {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const std::size_t count = limit.rlim_cur >= 4000 ? 1000 : limit.rlim_cur / 4;
  Serving serving(by_certificate);
  std::vector<std::unique_ptr<Connection>> silent;
  for (std::size_t i = 0; i < count; ++i) {
    silent.push_back(connect(serving.address()));
    REQUIRE(silent.back());
    const std::byte first{0x16};
    if (i % 2 == 0) worker::send_all(*silent.back(), {&first, 1}, soon());
  }
  auto options = client_of(serving);
  options.credentials = certificates_().of(certificates_().client);
  CHECK(sentence(options) == "");
}

}  // namespace avec::test
