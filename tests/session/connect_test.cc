#include "session/session_support.h"

namespace avec::test {
namespace {

session::Session::Failure failure_of(const session::Options& options) {
  auto opened = session::Session::open(options, {});
  REQUIRE_FALSE(opened);
  // One sentence for one line.
  CHECK(opened.error().message.find('\n') == std::string::npos);
  return opened.error();
}

/// Accepts one connection, sends `greeting`, and closes or keeps it.
class Stranger {
 public:
  Stranger(std::string greeting, bool close) {
    listener_ = find_transport("tcp://")->listen("tcp://127.0.0.1:0").listener;
    thread_ = std::thread([this, greeting, close] {
      auto accepted = listener_->accept(std::chrono::steady_clock::now() + std::chrono::seconds(10));
      if (!accepted.connection) return;
      const ConstBytes bytes = std::as_bytes(std::span(greeting));
      accepted.connection->send(std::span(&bytes, 1));
      if (close) {
        accepted.connection->close();
      } else {
        kept_ = std::move(accepted.connection);
      }
    });
  }
  ~Stranger() {
    listener_->wake();
    thread_.join();
  }
  std::string address() const { return listener_->address(); }

 private:
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Connection> kept_;
  std::thread thread_;
};

session::Options options_to(std::string url) {
  session::Options options;
  options.executor = std::move(url);
  return options;
}

TEST_CASE("Nobody listening: the message says how to start an executor") {
  std::string address;
  {
    const auto listener = find_transport("tcp://")->listen("tcp://127.0.0.1:0").listener;
    address = listener->address();
  }
  const auto failure = failure_of(options_to(address));
  CHECK(failure.message ==
        "no executor at " + address +
            ": start one with 'avec serve' there, or check the address (connection refused)");
  CHECK(session::cuda_code_for(failure) == 100);
}

TEST_CASE("An address that is none: the message shows one") {
  for (const auto* url : {"", "edge", "ftp://edge:1", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999"}) {
    const auto failure = failure_of(options_to(url));
    CHECK(says(failure.message, "tcp://HOST:PORT"));
    CHECK(session::cuda_code_for(failure) == 100);
  }
}

TEST_CASE("A port of something else is recognised") {
  const bool close = GENERATE(true, false);
  Stranger stranger("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", close);
  const auto failure = failure_of(options_to(stranger.address()));
  CHECK(says(failure.message, "is not an AVEC executor"));
  CHECK(session::cuda_code_for(failure) == 100);
}

TEST_CASE("A port that hangs up is recognised") {
  Stranger stranger("", true);
  CHECK(says(failure_of(options_to(stranger.address())).message, "is not an AVEC executor"));
}

TEST_CASE("A port that says nothing fails at the deadline") {
  Stranger stranger("", false);
  auto options = options_to(stranger.address());
  options.connect_deadline = std::chrono::milliseconds(200);
  const auto failure = failure_of(options);
  CHECK(says(failure.message, "did not answer within 0.2 s"));
  CHECK(session::cuda_code_for(failure) == 100);
}

TEST_CASE("Another major version: both are named") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<std::uint8_t> nonce(32);
  builder.Finish(
      wire::CreateChallenge(builder, 7, 0, builder.CreateString("9.9"), builder.CreateVector(nonce), false));
  const std::uint32_t size = builder.GetSize();
  std::string greeting(reinterpret_cast<const char*>(&size), 4);
  greeting.append(reinterpret_cast<const char*>(builder.GetBufferPointer()), size);
  Stranger stranger(greeting, false);
  const auto failure = failure_of(options_to(stranger.address()));
  CHECK(says(failure.message, "protocol 7"));
  CHECK(says(failure.message, "this side 1"));
  CHECK(session::cuda_code_for(failure) == 803);
}

TEST_CASE("The right token opens a session, others say what is wrong") {
  const std::string token = "a secret of sixteen bytes";
  FakeExecutor executor({.token = token});
  auto options = options_for(executor);
  SECTION("none") {
    const auto failure = failure_of(options);
    CHECK(says(failure.message, "asks for a token"));
    CHECK(session::cuda_code_for(failure) == 800);
  }
  SECTION("another") {
    options.token = "another secret of some bytes";
    const auto failure = failure_of(options);
    CHECK(says(failure.message, "token"));
    CHECK(session::cuda_code_for(failure) == 800);
  }
  SECTION("the right one") {
    options.token = token;
    CHECK(open(options)->call(wire::Ping(0)));
  }
}

TEST_CASE("No such device: the executor's words and CUDA_ERROR_NO_DEVICE") {
  FakeExecutor executor({});
  auto options = options_for(executor);
  options.device = "none";
  const auto failure = failure_of(options);
  CHECK(says(failure.message, "no device of kind 'none'"));
  CHECK(session::cuda_code_for(failure) == 100);
}

TEST_CASE("A device that cannot be opened gives the executor's CUDA error") {
  FakeExecutor executor({.script = [](FakeExecutor& self, const Record& record) {
    return record.opcode() == wire::Opcode::Hello && (self.reply(record, 999), true);
  }});
  const auto failure = failure_of(options_for(executor));
  CHECK(says(failure.message, "CUDA error 999"));
  CHECK(session::cuda_code_for(failure) == 999);
}

TEST_CASE("A worker that ends before it answers gives its reason") {
  FakeExecutor executor({.script =
                             [](FakeExecutor& self, const Record& record) {
                               return record.opcode() == wire::Opcode::Hello && (self.drop_link(), true);
                             },
                         .farewell = "killed by signal 9"});
  CHECK(says(failure_of(options_for(executor)).message, "killed by signal 9"));
}

TEST_CASE("A worker that never answers fails at the deadline") {
  FakeExecutor executor(
      {.script = [](FakeExecutor&, const Record& record) { return record.opcode() == wire::Opcode::Hello; }});
  auto options = options_for(executor);
  options.connect_deadline = std::chrono::milliseconds(300);
  CHECK(says(failure_of(options).message, "within 0.3 s"));
}

}  // namespace
}  // namespace avec::test
