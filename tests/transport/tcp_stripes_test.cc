// The contract over a TCP connection with stripes; what hostile and broken ones do.
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <thread>

#include "support/catch.h"
#include "transport/tcp/factory.h"
#include "transport/tcp/stripes.h"

namespace avec::contract {

/// TCP whose connections have stripes at once. Both ends are here: the listener's address tells
/// which executor's end a stripe belongs to.
struct StripesBackend {
  StripesBackend() : transport_(*this) {}

  class Wrapped final : public Transport {
   public:
    explicit Wrapped(StripesBackend& backend) : backend_(backend) {}
    std::string_view scheme() const noexcept override { return "tcp"; }
    TransportError viable(std::string& detail) const override { return tcp().viable(detail); }
    ListenResult listen(std::string_view url) noexcept override;
    ConnectResult connect(std::string_view url, Deadline deadline) noexcept override;
    static Transport& tcp() { return *find_transport("tcp://"); }

   private:
    StripesBackend& backend_;
  };
  /// Gives each connection its executor's end of stripes.
  class WrappedListener final : public Listener {
   public:
    WrappedListener(StripesBackend& backend, std::unique_ptr<Listener> inner)
        : backend_(backend), inner_(std::move(inner)) {}
    ConnectResult accept(Deadline deadline) noexcept override {
      auto result = inner_->accept(deadline);
      const std::scoped_lock lock(backend_.ends_->mutex);
      if (result.connection)
        backend_.ends_->by_client[result.connection->peer()] = tcp::accept_stripes(*result.connection);
      return result;
    }
    void wake() noexcept override { inner_->wake(); }
    std::string address() const override { return inner_->address(); }
    int poll_descriptor() const noexcept override { return inner_->poll_descriptor(); }

   private:
    StripesBackend& backend_;
    const std::unique_ptr<Listener> inner_;
  };

  avec::Transport& transport() { return transport_; }
  std::string listen_url() { return "tcp://127.0.0.1:0"; }
  std::string absent_url() { return "tcp://127.0.0.1:1"; }
  std::vector<std::string> bad_urls() { return {"tcp://", "tcp://127.0.0.1", ""}; }
  std::string peer_prefix() { return "tcp://127.0.0.1:"; }
  void reset(avec::Connection& connection) {
    sockaddr none{};
    none.sa_family = AF_UNSPEC;
    ::connect(avec::tcp::native_descriptor(connection), &none, sizeof none);
  }

  /// The executor's ends by the client's name. Shared with threads that open stripes, which may
  /// outlive the test.
  struct Ends {
    std::mutex mutex;
    std::map<std::string, std::weak_ptr<tcp::PeerStripes>> by_client;

    /// A pair of sockets; the executor's is joined to the end that belongs to `client`.
    std::unique_ptr<Connection> open_stripe(const std::string& client) {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return nullptr;
      Descriptor ours(ends[0]), theirs(ends[1]);
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (std::chrono::steady_clock::now() < until) {
        std::shared_ptr<tcp::PeerStripes> end;
        {
          const std::scoped_lock lock(mutex);
          const auto found = by_client.find(client);
          if (found != by_client.end() && !(end = found->second.lock())) return nullptr;  // over already
        }
        if (end) {
          end->join(tcp::adopt(theirs.release()));
          return tcp::adopt(ours.release());
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // not accepted yet
      }
      return nullptr;
    }
  };

  const std::shared_ptr<Ends> ends_ = std::make_shared<Ends>();
  Wrapped transport_;
};

ListenResult StripesBackend::Wrapped::listen(std::string_view url) noexcept {
  auto result = tcp().listen(url);
  if (result.listener)
    result.listener = std::make_unique<WrappedListener>(backend_, std::move(result.listener));
  return result;
}

ConnectResult StripesBackend::Wrapped::connect(std::string_view url, Deadline deadline) noexcept {
  auto result = tcp().connect(url, deadline);
  if (!result.connection) return result;
  sockaddr_in own{};
  socklen_t bytes = sizeof own;
  ::getsockname(tcp::native_descriptor(*result.connection), reinterpret_cast<sockaddr*>(&own), &bytes);
  const auto name = "tcp://127.0.0.1:" + std::to_string(ntohs(own.sin_port));
  tcp::offer_stripes(*result.connection,
                     {.count = 3,
                      .open = [ends = backend_.ends_, name] { return ends->open_stripe(name); },
                      .first_wait = std::chrono::seconds(20)});  // the contract's first range is allowed
  return result;
}

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND StripesBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

/// A client's end whose only stripe is in the test's hands: the executor that is not one.
struct Hostile {
  Hostile() : pair(plain_pair()) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    mine = Descriptor(ends[1]);
    theirs = ends[0];
    auto once = std::make_shared<std::atomic<int>>(theirs);
    send({tcp::StripeRequest::kReady, 0, {}, 0, 0});
    REQUIRE(tcp::offer_stripes(*pair.client, {.count = 1,
                                              .open = [once] { return tcp::adopt(once->exchange(-1)); },
                                              .first_wait = std::chrono::seconds(20)}));
    access = pair.client->one_sided();
    REQUIRE(access != nullptr);
    memory = access->allocate(kPage, nullptr).memory;
    REQUIRE_FALSE(access->allow(memory, RemoteAccess::kRead, readable));
    REQUIRE_FALSE(access->allow(memory, RemoteAccess::kWrite, writable));
  }
  ~Hostile() {
    pair.client->close();
    ::munmap(memory.data(), memory.size());
  }
  void send(const tcp::StripeRequest& request, std::size_t bytes = sizeof(tcp::StripeRequest)) {
    REQUIRE(::send(mine.get(), &request, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
  }
  tcp::StripeReply reply() {
    tcp::StripeReply reply;
    CHECK(::recv(mine.get(), &reply, sizeof reply, MSG_WAITALL) == sizeof reply);
    return reply;
  }
  /// What a driver of the client's end learns.
  TransportErrc client_end() { return end_of(*pair.client); }

  static Pair plain_pair() {
    auto& tcp = *find_transport("tcp://");
    Pair made;
    made.listener = tcp.listen("tcp://127.0.0.1:0").listener;
    made.client = tcp.connect(made.listener->address(), soon()).connection;
    made.server = accept(*made.listener);
    return made;
  }
  Pair pair;
  Descriptor mine;
  int theirs = -1;  // the client's end of it, which a stripe owns
  OneSided* access = nullptr;
  MutableBytes memory;
  RemoteKey readable, writable;
};

TEST_CASE("stripes: a request for what is not allowed is refused, and the stripe goes on") {
  Hostile hostile;
  using R = tcp::StripeRequest;
  RemoteKey wrong = hostile.readable;
  wrong.words[3] ^= 1;
  for (const auto& request :
       {R{R::kRead, 0, wrong, 0, 10}, R{R::kRead, 0, hostile.writable, 0, 10},
        R{R::kRead, 0, hostile.readable, kPage, 1}, R{R::kRead, 0, hostile.readable, 1, kPage},
        R{R::kRead, 0, hostile.readable, UINT64_MAX, 1}, R{R::kRead, 0, {}, 0, 10}}) {
    hostile.send(request);
    const auto reply = hostile.reply();
    CHECK(reply.status == tcp::StripeReply::kNotAllowed);
    CHECK(reply.bytes == 0);
  }
  hostile.send({R::kWrite, 0, hostile.readable, 0, 3});
  CHECK(::send(hostile.mine.get(), "abc", 3, MSG_NOSIGNAL) == 3);
  CHECK(hostile.reply().status == tcp::StripeReply::kNotAllowed);
  CHECK(all(hostile.memory, std::byte{0}));
  hostile.memory[5] = std::byte{77};
  hostile.send({R::kRead, 0, hostile.readable, 5, 1});
  CHECK(hostile.reply().status == tcp::StripeReply::kDone);
  std::byte byte{};
  CHECK(::recv(hostile.mine.get(), &byte, 1, MSG_WAITALL) == 1);
  CHECK(byte == std::byte{77});
}

TEST_CASE("stripes: a range is taken when all of it has been read, not before, and is not when it was written") {
  Hostile hostile;
  using R = tcp::StripeRequest;
  std::mutex mutex;
  std::vector<RemoteKey> taken;
  hostile.access->on_taken([&](const RemoteKey& key) {
    const std::scoped_lock lock(mutex);
    taken.push_back(key);
  });
  const auto count = [&] {
    const std::scoped_lock lock(mutex);
    return taken.size();
  };
  RemoteKey key;
  REQUIRE_FALSE(hostile.access->allow(hostile.memory, RemoteAccess::kRead, key));
  std::vector<std::byte> bytes(kPage);
  const auto read = [&](const RemoteKey& from, std::uint64_t offset, std::uint64_t size) {
    hostile.send({R::kRead, 0, from, offset, size});
    CHECK(hostile.reply().status == tcp::StripeReply::kDone);
    CHECK(::recv(hostile.mine.get(), bytes.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size));
  };
  hostile.send({R::kWrite, 0, hostile.writable, 0, kPage});
  CHECK(::send(hostile.mine.get(), bytes.data(), kPage, MSG_NOSIGNAL) == kPage);
  CHECK(hostile.reply().status == tcp::StripeReply::kDone);
  read(key, 0, kPage - 1);
  read(hostile.readable, 0, kPage - 1);  // answered after the first was counted
  CHECK(count() == 0);
  read(key, kPage - 1, 1);
  read(key, 0, 1);  // once is enough
  read(hostile.readable, 0, 1);
  for (int i = 0; i < 2000 && count() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::scoped_lock lock(mutex);
  CHECK((taken == std::vector<RemoteKey>{key, hostile.readable}));
}

TEST_CASE("stripes: a request that makes no sense ends the connection") {
  using R = tcp::StripeRequest;
  for (const auto& request :
       {R{0, 0, {}, 0, 1}, R{4, 0, {}, 0, 1}, R{R::kReady, 0, {}, 0, 0}, R{R::kRead, 1, {}, 0, 1},
        R{R::kRead, 0, {}, 0, 0}, R{R::kWrite, 0, {}, 0, tcp::kMaxStripePart + 1},
        R{R::kRead, 0, {}, 0, UINT64_MAX}}) {
    Hostile hostile;
    hostile.send(request);
    CHECK(hostile.client_end() == TransportErrc::kReset);
    CHECK(end_of(*hostile.pair.server) == TransportErrc::kReset);
  }
}

TEST_CASE("stripes: the largest part is answered") {
  Hostile hostile;
  using R = tcp::StripeRequest;
  hostile.send({R::kRead, 0, hostile.readable, 0, tcp::kMaxStripePart});
  CHECK(hostile.reply().status == tcp::StripeReply::kNotAllowed);  // larger than the range, no more
}

TEST_CASE("stripes: one that ends in the middle of a request ends the connection") {
  Hostile hostile;
  hostile.send({tcp::StripeRequest::kRead, 0, hostile.readable, 0, 10}, 20);
  hostile.mine.reset();
  CHECK(hostile.client_end() == TransportErrc::kReset);
}

TEST_CASE("stripes: one that ends in the middle of a write ends the connection") {
  Hostile hostile;
  hostile.send({tcp::StripeRequest::kWrite, 0, hostile.writable, 0, 10});
  CHECK(::send(hostile.mine.get(), "abc", 3, MSG_NOSIGNAL) == 3);
  hostile.mine.reset();
  CHECK(hostile.client_end() == TransportErrc::kReset);
}

TEST_CASE("stripes: one that ends between requests ends nothing while no range is allowed") {
  Hostile hostile;
  hostile.access->revoke(hostile.readable);
  hostile.access->revoke(hostile.writable);
  hostile.mine.reset();
  CHECK(hostile.pair.client->wait(false, in(50ms)).code == TransportErrc::kTimeout);
  CHECK(send_text(*hostile.pair.client, "on").bytes == 2);
  CHECK(receive_text(*hostile.pair.server, 2) == "on");
}

TEST_CASE("stripes: a peer that stops in the middle of a write does not hold a revoke up for ever") {
  Hostile hostile;
  hostile.send({tcp::StripeRequest::kWrite, 0, hostile.writable, 0, 10});
  CHECK(::send(hostile.mine.get(), "abc", 3, MSG_NOSIGNAL) == 3);
  while (hostile.memory[0] == std::byte{0}) std::this_thread::yield();
  hostile.access->revoke(hostile.writable);
  hostile.memory[0] = std::byte{0};
  static_cast<void>(::send(hostile.mine.get(), "defghij", 7, MSG_NOSIGNAL));
  CHECK(hostile.client_end() == TransportErrc::kReset);
  CHECK(hostile.memory[3] == std::byte{0});
}

TEST_CASE("stripes: the last that ends ends the connection when the executor may count on a range") {
  Hostile hostile;
  hostile.mine.reset();
  CHECK(hostile.client_end() == TransportErrc::kReset);
}

TEST_CASE("stripes: memory is not used any more once removed, also while another thread revokes its key") {
  Hostile hostile;
  hostile.send({tcp::StripeRequest::kWrite, 0, hostile.writable, 0, 10});
  CHECK(::send(hostile.mine.get(), "abc", 3, MSG_NOSIGNAL) == 3);
  while (hostile.memory[0] == std::byte{0}) std::this_thread::yield();
  std::thread other([&] { hostile.access->revoke(hostile.writable); });
  std::this_thread::sleep_for(100ms);  // it waits for the write by now
  hostile.access->remove(hostile.memory);
  static_cast<void>(::send(hostile.mine.get(), "defghij", 7, MSG_NOSIGNAL));
  std::this_thread::sleep_for(100ms);
  CHECK(hostile.memory[3] == std::byte{0});
  other.join();
}

TEST_CASE("stripes: the child of a fork keeps none of them open") {
  Hostile hostile;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    tcp::forget_stripes_after_fork(*hostile.pair.client);
    ::_exit(::fcntl(hostile.theirs, F_GETFD) < 0 && errno == EBADF ? 0 : 1);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  hostile.memory[5] = std::byte{77};  // the parent's are as before
  hostile.send({tcp::StripeRequest::kRead, 0, hostile.readable, 5, 1});
  CHECK(hostile.reply().status == tcp::StripeReply::kDone);
}

/// An executor's end whose only stripe is in the test's hands: the client that is not one.
struct FalseClient : Hostile {
  FalseClient() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    access->revoke(readable);
    access->revoke(writable);
    mine = Descriptor(ends[1]);
    stripes = tcp::accept_stripes(*pair.server);
    REQUIRE(stripes);
    into = stripes->allocate(kPage, nullptr).memory;
    REQUIRE(stripes->join(tcp::adopt(ends[0])));
    tcp::StripeRequest ready;
    REQUIRE(::recv(mine.get(), &ready, sizeof ready, MSG_WAITALL) == sizeof ready);
    CHECK(ready.kind == tcp::StripeRequest::kReady);
    REQUIRE(stripes->read({{1, 2, 3, 4}}, 0, into, 9).bytes == kPage);
    tcp::StripeRequest request;
    REQUIRE(::recv(mine.get(), &request, sizeof request, MSG_WAITALL) == sizeof request);
    CHECK(request.kind == tcp::StripeRequest::kRead);
    CHECK(request.bytes == kPage);
    CHECK(request.key == RemoteKey{{1, 2, 3, 4}});
  }
  ~FalseClient() {
    pair.server->close();
    ::munmap(into.data(), into.size());
  }
  void answer(const tcp::StripeReply& reply) {
    REQUIRE(::send(mine.get(), &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply);
  }
  std::shared_ptr<tcp::PeerStripes> stripes;
  MutableBytes into;
};

TEST_CASE("stripes: an answer that makes no sense ends the connection and the access") {
  using R = tcp::StripeReply;
  for (const auto& reply : {R{R::kDone, 0, kPage - 1}, R{R::kDone, 0, kPage + 1}, R{R::kDone, 0, UINT64_MAX},
                            R{R::kNotAllowed, 0, kPage}, R{2, 0, 0}, R{R::kDone, 1, kPage}}) {
    FalseClient client;
    client.answer(reply);
    OneSidedCompletion ended;
    std::size_t count = 0;
    CHECK_FALSE(await_completions({client.pair.server.get(), client.stripes.get()}, {&ended, 1}, count));
    CHECK(ended.token == 9);
    CHECK(ended.error.code == TransportErrc::kReset);
    CHECK(end_of(*client.pair.server) == TransportErrc::kReset);
  }
}

TEST_CASE("stripes: a client that ends a stripe in the middle of an answer ends the connection") {
  FalseClient client;
  client.answer({tcp::StripeReply::kDone, 0, kPage});
  CHECK(::send(client.mine.get(), "abc", 3, MSG_NOSIGNAL) == 3);
  client.mine.reset();
  OneSidedCompletion ended;
  std::size_t count = 0;
  CHECK_FALSE(await_completions({client.pair.server.get(), client.stripes.get()}, {&ended, 1}, count));
  CHECK(ended.error.code == TransportErrc::kReset);
  CHECK(end_of(*client.pair.server) == TransportErrc::kReset);
  CHECK(end_of(*client.pair.client) == TransportErrc::kReset);
}

TEST_CASE("stripes: an answer that nobody asked for ends the connection") {
  FalseClient client;
  client.answer({tcp::StripeReply::kNotAllowed, 0, 0});
  OneSidedCompletion ended;
  std::size_t count = 0;
  CHECK_FALSE(await_completions({client.pair.server.get(), client.stripes.get()}, {&ended, 1}, count));
  CHECK(ended.error.code == TransportErrc::kInternal);
  client.answer({tcp::StripeReply::kNotAllowed, 0, 0});
  CHECK(end_of(*client.pair.server) == TransportErrc::kReset);
}

TEST_CASE("stripes: a client that stops in the middle of an answer does not hold a close up") {
  FalseClient client;
  client.answer({tcp::StripeReply::kDone, 0, kPage});
  client.pair.server->close();
  OneSidedCompletion ended;
  CHECK(client.stripes->completed({&ended, 1}) == 1);
  CHECK(ended.error);
}

/// A client that offers stripes, and what it was told.
struct Offering {
  Offering(unsigned count, std::function<std::unique_ptr<Connection>()> open,
           std::chrono::milliseconds wait = 20s)
      : pair(Hostile::plain_pair()) {
    REQUIRE(tcp::offer_stripes(*pair.client, {.count = count,
                                              .open = std::move(open),
                                              .first_wait = wait,
                                              .none_opened = [told = told] { ++*told; }}));
    memory = pair.client->one_sided()->allocate(kPage, nullptr).memory;
  }
  ~Offering() {
    pair.client->close();
    ::munmap(memory.data(), memory.size());
  }
  TransportErrc allow() {
    RemoteKey key;
    return pair.client->one_sided()->allow(memory, RemoteAccess::kRead, key).code;
  }
  bool goes_on() {
    return send_text(*pair.client, "on").bytes == 2 && receive_text(*pair.server, 2) == "on" &&
           pair.client->wait(false, in(20ms)).code == TransportErrc::kTimeout;
  }
  const std::shared_ptr<std::atomic<int>> told = std::make_shared<std::atomic<int>>(0);
  Pair pair;
  MutableBytes memory;
};

TEST_CASE("stripes: without any that could be opened nothing is allowed, and the connection goes on") {
  Offering offering(4, [] { return nullptr; });
  for (int i = 0; i < 3; ++i) CHECK(offering.allow() == TransportErrc::kNotViable);
  CHECK(*offering.told == 1);
  CHECK(offering.goes_on());
}

TEST_CASE("stripes: those that end before the executor has taken them are as if not opened") {
  std::atomic<int> number{0};
  // What stands between accepts and hangs up; says something else; or resets.
  Offering offering(3, [&number] {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return std::unique_ptr<Connection>();
    const Descriptor far(ends[1]);
    auto near = tcp::adopt(ends[0]);
    const int which = number++;
    const std::string other(sizeof(tcp::StripeRequest), 'x');
    if (which == 1) static_cast<void>(::send(far.get(), other.data(), other.size(), MSG_NOSIGNAL));
    if (which == 2) static_cast<void>(::send(ends[0], "unread", 6, MSG_NOSIGNAL));
    return near;
  });
  CHECK(offering.allow() == TransportErrc::kNotViable);
  CHECK(number == 3);
  CHECK(*offering.told == 1);
  CHECK(offering.goes_on());
}

TEST_CASE("stripes: one that is ready is enough") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Descriptor mine(ends[1]);
  const tcp::StripeRequest ready{tcp::StripeRequest::kReady, 0, {}, 0, 0};
  REQUIRE(::send(mine.get(), &ready, sizeof ready, MSG_NOSIGNAL) == sizeof ready);
  auto theirs = std::make_shared<std::atomic<int>>(ends[0]);
  Offering offering(4, [theirs] { return tcp::adopt(theirs->exchange(-1)); });
  CHECK(offering.allow() == TransportErrc::kNone);
  CHECK(*offering.told == 0);
  CHECK(offering.goes_on());
}

TEST_CASE("stripes: while none is ready yet nothing is allowed, later it is") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Descriptor mine(ends[1]);
  auto theirs = std::make_shared<std::atomic<int>>(ends[0]);
  Offering offering(1, [theirs] { return tcp::adopt(theirs->exchange(-1)); }, 1ms);
  CHECK(offering.allow() == TransportErrc::kNotViable);
  const tcp::StripeRequest ready{tcp::StripeRequest::kReady, 0, {}, 0, 0};
  REQUIRE(::send(mine.get(), &ready, sizeof ready, MSG_NOSIGNAL) == sizeof ready);
  const auto until = soon();
  while (offering.allow() != TransportErrc::kNone && std::chrono::steady_clock::now() < until)
    std::this_thread::yield();
  CHECK(offering.allow() == TransportErrc::kNone);
}

TEST_CASE("stripes: one for which the executor has no thread is closed, and the others go on") {
  auto pair = Hostile::plain_pair();
  const auto stripes = tcp::accept_stripes(*pair.server);
  REQUIRE(stripes);
  const auto join = [&] {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const bool joined = stripes->join(tcp::adopt(ends[0]));
    return std::pair(joined, Descriptor(ends[1]));
  };
  const auto first = join();
  CHECK(first.first);
  pthread_attr_t usual, vast;
  REQUIRE(::pthread_getattr_default_np(&usual) == 0);
  REQUIRE(::pthread_attr_init(&vast) == 0);
  REQUIRE(::pthread_attr_setstacksize(&vast, std::size_t{1} << 62) == 0);  // no thread has room for it
  REQUIRE(::pthread_setattr_default_np(&vast) == 0);
  const auto second = join();
  REQUIRE(::pthread_setattr_default_np(&usual) == 0);
  CHECK_FALSE(second.first);
  std::byte byte{};
  CHECK(::recv(second.second.get(), &byte, 1, 0) == 0);
  tcp::StripeRequest ready;
  CHECK(::recv(first.second.get(), &ready, sizeof ready, MSG_WAITALL) == sizeof ready);
  CHECK_FALSE(stripes->broken());
  CHECK(join().first);
  pair.server->close();
}

TEST_CASE("stripes: small ranges are left to the stream") {
  auto& tcp = *find_transport("tcp://");
  auto listening = tcp.listen("tcp://127.0.0.1:0");
  auto client = tcp.connect(listening.listener->address(), soon()).connection;
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Descriptor mine(ends[1]);
  const tcp::StripeRequest ready{tcp::StripeRequest::kReady, 0, {}, 0, 0};
  REQUIRE(::send(mine.get(), &ready, sizeof ready, MSG_NOSIGNAL) == sizeof ready);
  REQUIRE(tcp::offer_stripes(*client, {.count = 1,
                                       .least_bytes = 1000,
                                       .open = [end = ends[0]] { return tcp::adopt(end); },
                                       .first_wait = std::chrono::seconds(20)}));
  auto& access = *client->one_sided();
  const auto memory = access.allocate(kPage, nullptr).memory;
  RemoteKey key;
  CHECK(access.allow(memory.first(999), RemoteAccess::kRead, key).code == TransportErrc::kNotViable);
  CHECK_FALSE(access.allow(memory.first(1000), RemoteAccess::kRead, key));
  access.free(memory, false);
}

TEST_CASE("stripes: a connection of another transport has none") {
  Backend backend;
  auto listening = find_transport("sim://")->listen("sim://no-stripes");
  auto client = find_transport("sim://")->connect("sim://no-stripes", soon()).connection;
  CHECK_FALSE(tcp::offer_stripes(*client, {}));
  CHECK_FALSE(tcp::accept_stripes(*client));
}

}  // namespace
}  // namespace avec::contract
