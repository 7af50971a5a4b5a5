#include "wire/handshake.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "support/catch.h"
#include "wire/frame.h"

using namespace avec;
using namespace avec::wire;

namespace {

const std::string kToken = "0123456789abcdef0123456789abcdef";

/// The table of a message that carries its length in front, in aligned memory.
Bytes table_of(const Bytes& message) {
  MessageReceiver receiver;
  std::size_t sent = 0;
  while (!receiver.complete()) {
    auto space = receiver.space();
    REQUIRE(sent + space.size() <= message.size());
    std::memcpy(space.data(), message.data() + sent, 1);
    sent += 1;
    REQUIRE(receiver.advance(1));
  }
  REQUIRE(sent == message.size());
  return {receiver.message().begin(), receiver.message().end()};
}

Introduction introduction() {
  Introduction who;
  who.release = "0.1.0";
  who.host = "edge";
  who.pid = 42;
  who.program = "edges";
  who.device = "cpu";
  who.environment = {{"CUDA_VISIBLE_DEVICES", "1"}};
  return who;
}

std::filesystem::path token_file(const std::string& text, mode_t mode) {
  const auto path = std::filesystem::temp_directory_path() / ("avec-token-" + std::to_string(::getpid()));
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
  return path;
}

}  // namespace

TEST_CASE("client and broker that share a token agree on ticket and key") {
  ClientHandshake client(kToken);
  BrokerHandshake broker(kToken);
  const auto hello = client.answer(table_of(broker.challenge("0.1.0").value()), introduction());
  REQUIRE(hello);
  const auto who = broker.check(table_of(*hello));
  REQUIRE(who);
  CHECK(who->program == "edges");
  CHECK(who->pid == 42);
  CHECK(who->device == "cpu");
  CHECK(who->environment == introduction().environment);
  CHECK(client.executor_release() == "0.1.0");
  const auto admission = client.finish(table_of(broker.ticket("cpu", "asked for").value()));
  REQUIRE(admission);
  CHECK(admission->ticket == broker.ticket_id());
  CHECK(admission->key == broker.session_key());
  CHECK(admission->device == "cpu");
  CHECK(admission->reason == "asked for");

  const auto opening = data_opening(admission->ticket, admission->key, 7);
  REQUIRE(opening);
  const auto preamble = check_data_opening(*opening, broker.ticket_id(), broker.session_key());
  REQUIRE(preamble);
  CHECK(preamble->resume_from() == 7);
}

TEST_CASE("without a token the key travels in the ticket") {
  ClientHandshake client("");
  BrokerHandshake broker("");
  const auto hello = client.answer(table_of(broker.challenge("0.1.0").value()), introduction());
  REQUIRE(hello);
  REQUIRE(broker.check(table_of(*hello)));
  const auto admission = client.finish(table_of(broker.ticket("cpu", "").value()));
  REQUIRE(admission);
  CHECK(admission->key == broker.session_key());
  CHECK(admission->key != Digest{});
}

TEST_CASE("a client with another token is refused") {
  ClientHandshake client("another token of 32 bytes length");
  BrokerHandshake broker(kToken);
  const auto hello = client.answer(table_of(broker.challenge("0.1.0").value()), introduction());
  REQUIRE(hello);
  const auto who = broker.check(table_of(*hello));
  REQUIRE(!who);
  CHECK(who.error().code == RefusalCode::Authentication);
}

TEST_CASE("an executor with another token is found out by the client") {
  ClientHandshake client(kToken);
  BrokerHandshake impostor("another token of 32 bytes length");
  REQUIRE(client.answer(table_of(impostor.challenge("0.1.0").value()), introduction()));
  const auto admission = client.finish(table_of(impostor.ticket("cpu", "").value()));
  REQUIRE(!admission);
  CHECK(admission.error().code == RefusalCode::Authentication);
}

TEST_CASE("a proof cannot be used with another challenge") {
  ClientHandshake client(kToken);
  BrokerHandshake first(kToken), second(kToken);
  const auto hello = client.answer(table_of(first.challenge("0.1.0").value()), introduction());
  REQUIRE(second.challenge("0.1.0"));
  CHECK(!second.check(table_of(*hello)));
  CHECK(first.check(table_of(*hello)));
}

TEST_CASE("token and --insecure do not mix silently") {
  ClientHandshake with(kToken), without("");
  BrokerHandshake insecure(""), secure(kToken);
  const auto downgraded = with.answer(table_of(insecure.challenge("0.1.0").value()), introduction());
  REQUIRE(!downgraded);
  CHECK(downgraded.error().code == RefusalCode::Authentication);
  const auto missing = without.answer(table_of(secure.challenge("0.1.0").value()), introduction());
  REQUIRE(!missing);
  CHECK(missing.error().message.find("AVEC_TOKEN_FILE") != std::string::npos);
}

TEST_CASE("other major versions are named on both sides") {
  flatbuffers::FlatBufferBuilder challenge;
  const std::vector<std::uint8_t> nonce(32);
  challenge.Finish(CreateChallengeDirect(challenge, kMajor + 1, 0, "9.0", &nonce, true));
  ClientHandshake client(kToken);
  const auto* begin = reinterpret_cast<const std::byte*>(challenge.GetBufferPointer());
  const auto answer = client.answer({begin, challenge.GetSize()}, introduction());
  REQUIRE(!answer);
  CHECK(answer.error().code == RefusalCode::Version);
  CHECK(answer.error().message.find("9.0") != std::string::npos);

  flatbuffers::FlatBufferBuilder hello;
  hello.Finish(CreateControlHelloDirect(hello, kMajor + 1, 0, "9.0", &nonce));
  BrokerHandshake broker(kToken);
  REQUIRE(broker.challenge("0.1.0"));
  begin = reinterpret_cast<const std::byte*>(hello.GetBufferPointer());
  const auto who = broker.check({begin, hello.GetSize()});
  REQUIRE(!who);
  CHECK(who.error().code == RefusalCode::Version);
}

TEST_CASE("a refusal reaches the client with its code and sentence") {
  ClientHandshake client("");
  BrokerHandshake broker("");
  REQUIRE(client.answer(table_of(broker.challenge("0.1.0").value()), introduction()));
  const auto admission = client.finish(table_of(refusal(RefusalCode::Busy, "256 sessions are open")));
  REQUIRE(!admission);
  CHECK(admission.error().code == RefusalCode::Busy);
  CHECK(admission.error().message == "256 sessions are open");
  CHECK(cuda_status(RefusalCode::Busy) == 802);
  CHECK(parse_farewell(table_of(farewell("killed by signal 9"))).value() == "killed by signal 9");
}

TEST_CASE("a data connection with one changed bit is refused") {
  const TicketId ticket{std::byte{1}};
  const Digest key{std::byte{2}};
  const auto good = data_opening(ticket, key, 3).value();
  REQUIRE(check_data_opening(good, ticket, key));
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto changed = good;
    changed[at] ^= std::byte{0x10};
    CHECK(!check_data_opening(changed, ticket, key));
  }
}

TEST_CASE("a stripe's opening is told from a data connection's, and one changed bit is refused") {
  const TicketId ticket{std::byte{1}};
  const Digest key{std::byte{2}};
  const auto good = stripe_opening(ticket, key).value();
  const auto preamble = check_data_opening(good, ticket, key);
  REQUIRE(preamble);
  CHECK(preamble->kind() == ConnectionKind::Stripe);
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto changed = good;
    changed[at] ^= std::byte{0x10};
    CHECK(!check_data_opening(changed, ticket, key));
  }
  CHECK(!check_data_opening(good, ticket, Digest{std::byte{3}}));
}

TEST_CASE("a data connection says whether stripes may follow; no other kind does") {
  const auto plain = data_opening({}, {}, 0).value();
  const auto striped = data_opening({}, {}, 0, Upgrades::kNone, Stripes::kMayFollow).value();
  CHECK(check_data_opening(plain, {}, {})->stripes() == 0);
  CHECK(check_data_opening(striped, {}, {})->stripes() == 1);
  auto stripe = stripe_opening({}, {}).value();
  const std::size_t stripes_at = 10;
  REQUIRE((striped[stripes_at] == std::byte{1} && plain[stripes_at] == std::byte{0}));
  stripe[stripes_at] = std::byte{1};
  CHECK(!parse_preamble(ConstBytes(stripe).first(kPreambleBytes)));
  Preamble control = control_preamble();
  const auto bytes = std::as_writable_bytes(std::span(&control, 1));
  bytes[stripes_at] = std::byte{1};
  CHECK(!parse_preamble(bytes));
}

TEST_CASE("a preamble is recognised or refused byte for byte") {
  Preamble preamble = control_preamble();
  const auto bytes = std::as_writable_bytes(std::span(&preamble, 1));
  CHECK(parse_preamble(bytes));
  CHECK(!parse_preamble(bytes.first(kPreambleBytes - 1)));
  for (std::size_t at = 0; at < kPreambleBytes; ++at) {
    const bool version = at >= 4 && at < 8;  // checked later, so that it can be answered
    bytes[at] ^= std::byte{0x40};
    CHECK(parse_preamble(bytes).has_value() == version);
    bytes[at] ^= std::byte{0x40};
  }
}

TEST_CASE("handshake messages are accepted up to their limit") {
  const auto announce = [](std::uint32_t size) {
    MessageReceiver receiver;
    std::memcpy(receiver.space().data(), &size, sizeof size);
    return receiver.advance(sizeof size).has_value();
  };
  CHECK(!announce(0));
  CHECK(announce(1));
  CHECK(announce(limits::kMaxHandshakeBytes - 1));
  CHECK(announce(limits::kMaxHandshakeBytes));
  CHECK(!announce(limits::kMaxHandshakeBytes + 1));
}

TEST_CASE("truncated and mutated handshake messages are refused or read, never worse") {
  ClientHandshake client(kToken);
  BrokerHandshake broker(kToken);
  const Bytes challenge = table_of(broker.challenge("0.1.0").value());
  const Bytes hello = table_of(client.answer(challenge, introduction()).value());
  REQUIRE(broker.check(hello));
  const Bytes reply = table_of(broker.ticket("cpu", "asked for").value());
  int admitted = 0;
  const auto feed = [&](const Bytes& bytes) {
    (void)ClientHandshake(kToken).answer(bytes, introduction());
    (void)broker.check(bytes);
    admitted += client.finish(bytes).has_value();
    (void)parse_farewell(bytes);
  };
  for (const Bytes& message : {challenge, hello, reply}) {
    for (std::size_t size = 0; size < message.size(); ++size) feed({message.begin(), message.begin() + size});
    CHECK(admitted == 0);
  }
  for (const Bytes& message : {challenge, hello, reply}) {
    for (std::size_t at = 0; at < message.size(); ++at) {
      for (int value = 0; value < 256; value += 15) {
        Bytes mutant = message;
        mutant[at] = static_cast<std::byte>(value);
        feed(mutant);
      }
    }
  }
  CHECK(client.finish(reply));
}

TEST_CASE("HMAC and SHA-256 give the published values") {
  // RFC 4231, test case 2; FIPS 180-4 "abc".
  const std::string key = "Jefe", text = "what do ya want for nothing?";
  const auto mac = hmac(std::as_bytes(std::span(key)), {std::as_bytes(std::span(text)).first(10),
                                                        std::as_bytes(std::span(text)).subspan(10)});
  REQUIRE(mac);
  CHECK((*mac)[0] == std::byte{0x5b});
  CHECK((*mac)[31] == std::byte{0x43});
  const std::string abc = "abc";
  const auto hash = content_hash(std::as_bytes(std::span(abc)));
  REQUIRE(hash);
  CHECK(hash->bytes()->Get(0) == 0xba);
  CHECK(hash->bytes()->Get(31) == 0xad);
}

TEST_CASE("token files are read only where they are long enough and private") {
  const auto read = [](const std::string& text, mode_t mode) {
    return read_token_file(token_file(text, mode).string());
  };
  CHECK(read(kToken + "\n", 0600).value() == kToken);
  CHECK(read(std::string(15, 'x'), 0600).has_value() == false);
  CHECK(read(std::string(16, 'x'), 0600).has_value());
  CHECK(read(std::string(17, 'x'), 0600).has_value());
  CHECK(read(std::string(4096, 'x'), 0600).has_value());
  CHECK(!read(std::string(4097, 'x'), 0600).has_value());
  const auto open = read(kToken, 0644);
  REQUIRE(!open);
  CHECK(open.error().find("chmod 600") != std::string::npos);
  std::filesystem::remove(token_file("", 0600));
  CHECK(!read_token_file("/nonexistent/token"));
}
