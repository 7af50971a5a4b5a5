// The broker with real worker processes on the CPU device.
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "executor/broker/broker.h"
#include "executor/raw_client.h"
#include "support/catch.h"

namespace avec::test {
namespace {

constexpr std::uint64_t kBase = 0x300000000000, kRange = 1u << 30;
const std::string kToken = "a secret of sixteen bytes and more";

/// A broker on a thread; ended by the destructor.
class Serving {
 public:
  explicit Serving(const std::string& token = kToken, const std::string& device = "cpu",
                   const std::string& listen = "tcp://127.0.0.1:0", unsigned spare_workers = 0) {
    options_.spare_workers = spare_workers;
    options_.listen = listen;
    options_.token = token;
    options_.device = device;
    options_.cpu_device = AVEC_CPU_DEVICE;
    options_.cuda_driver = "/nonexistent/libcuda.so.1";
    options_.program = AVEC_WORKER_PROGRAM;
    options_.release = "test";
    options_.log_level = "off";
    options_.listening = [this](const std::string& address) {
      address_ = address;
      ready_ = true;
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

 private:
  broker::Options options_;
  broker::Stopper stopper_;
  std::string address_, problem_;
  std::atomic<bool> ready_{false};
  std::thread thread_;
};

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

/// Children of this process that are not yet reaped.
std::vector<pid_t> children() {
  std::vector<pid_t> pids;
  DIR* folder = ::opendir("/proc/self/task");
  while (dirent* entry = ::readdir(folder)) {
    std::ifstream file("/proc/self/task/" + std::string(entry->d_name) + "/children");
    for (pid_t pid; file >> pid;) pids.push_back(pid);
  }
  ::closedir(folder);
  return pids;
}

template <class Condition>
bool eventually(Condition&& condition) {
  for (const auto deadline = soon(); std::chrono::steady_clock::now() < deadline;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

std::unique_ptr<Connection> connect(const std::string& address) {
  return find_transport(address)->connect(address, soon()).connection;
}

/// True when the peer closes the connection in time, whatever it says before.
bool is_closed_by_peer(Connection& connection) {
  std::array<std::byte, 256> buffer;
  MutableBytes bytes(buffer);
  return eventually([&] { return static_cast<bool>(connection.receive({&bytes, 1}).error); });
}

}  // namespace

TEST_CASE("A client that knows the token gets a session, and an orderly end") {
  Serving serving;
  RawClient client(serving.address(), kToken);
  REQUIRE(client.problem() == "");
  CHECK(client.admission.device == "cpu");
  REQUIRE(client.hello(kBase, kRange).has_value());
  CHECK(client.status_of(wire::Ping(0)) == 0);
  CHECK(client.status_of(wire::Goodbye(0)) == 0);
  CHECK(client.farewell() == "closed by the client");
  CHECK(eventually([] { return children().empty(); }));
}

TEST_CASE("A client that does not know the token is refused, with a sentence") {
  Serving serving;
  CHECK(RawClient(serving.address(), "a wrong secret of sixteen bytes").problem() != "");
  CHECK(RawClient(serving.address(), "").problem() != "");
  CHECK(children().empty());
  CHECK(RawClient(serving.address(), kToken).problem() == "");
}

TEST_CASE("A listener that others can reach needs a secret") {
  broker::Options options;
  options.listen = "tcp://0.0.0.0:0";
  options.device = "cpu";
  broker::Stopper stopper;
  stopper.stop();
  const auto served = broker::run(options, stopper);
  REQUIRE(!served);
  CHECK(served.error().find("--token-file") != std::string::npos);
  options.insecure = true;
  CHECK(broker::run(options, stopper).has_value());
}

TEST_CASE("A broker listens on several addresses, and takes its socket's file away at the end") {
  const std::string path = "/tmp/avec-broker-test-" + std::to_string(::getpid()) + ".sock";
  {
    // A socket of the Unix domain is this machine's alone: no secret is needed.
    Serving serving("", "cpu", "tcp://127.0.0.1:0,unix://" + path);
    const auto comma = serving.address().find(',');
    REQUIRE(comma != std::string::npos);
    CHECK(serving.address().substr(comma + 1) == "unix://" + path);
    for (const std::string& address : {serving.address().substr(0, comma), serving.address().substr(comma + 1)}) {
      RawClient client(address, "");
      REQUIRE(client.problem() == "");
      REQUIRE(client.hello(kBase, kRange).has_value());
      CHECK(client.status_of(wire::Goodbye(0)) == 0);
      CHECK(client.farewell() == "closed by the client");
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
  }
  CHECK(::access(path.c_str(), F_OK) != 0);
}

TEST_CASE("A list of addresses with one that is none is refused as a whole") {
  const std::string path = "/tmp/avec-broker-test-" + std::to_string(::getpid()) + ".sock";
  broker::Options options;
  options.device = "cpu";
  broker::Stopper stopper;
  stopper.stop();
  for (const std::string& bad : {std::string(), std::string("shm:///tmp/x.sock"), std::string("unix://relative")}) {
    options.listen = "unix://" + path + "," + bad;
    const auto served = broker::run(options, stopper);
    REQUIRE(!served);
    CHECK(served.error().find("cannot listen on " + bad) != std::string::npos);
    CHECK(::access(path.c_str(), F_OK) != 0);
  }
  options.listen = "tcp://127.0.0.1:0";
  for (std::size_t i = 1; i < limits::kMaxListeners; ++i) options.listen += ",tcp://127.0.0.1:0";
  CHECK(broker::run(options, stopper).has_value());
  options.listen += ",tcp://127.0.0.1:0";
  CHECK(!broker::run(options, stopper).has_value());
}

TEST_CASE("auto takes the CPU device where there is no GPU and says why; cuda is refused there") {
  Serving serving(kToken, "auto");
  RawClient client(serving.address(), kToken);
  REQUIRE(client.problem() == "");
  CHECK(client.admission.device == "cpu");
  CHECK(client.admission.reason.find("/nonexistent/libcuda.so.1") != std::string::npos);
  CHECK(RawClient(serving.address(), kToken, "cuda").problem().find("'cpu'") != std::string::npos);
}

TEST_CASE("A worker that is killed is announced, and its neighbours go on") {
  Serving serving;
  RawClient first(serving.address(), kToken);
  const auto workers = children();
  REQUIRE(workers.size() == 1);
  RawClient second(serving.address(), kToken);
  REQUIRE(first.hello(kBase, kRange).has_value());
  REQUIRE(second.hello(kBase, kRange).has_value());
  ::kill(workers.front(), SIGKILL);
  CHECK(first.farewell() == "the worker was killed by signal 9");
  CHECK(second.status_of(wire::Ping(0)) == 0);
}

TEST_CASE("A client that vanishes frees its worker") {
  Serving serving;
  {
    RawClient client(serving.address(), kToken);
    REQUIRE(client.hello(kBase, kRange).has_value());
    CHECK(children().size() == 1);
  }
  CHECK(eventually([] { return children().empty(); }));
}

TEST_CASE("A malformed frame ends its session with the reason, and no other") {
  Serving serving;
  RawClient bad(serving.address(), kToken), good(serving.address(), kToken);
  REQUIRE(bad.hello(kBase, kRange).has_value());
  REQUIRE(good.hello(kBase, kRange).has_value());
  bad.send(static_cast<wire::Opcode>(0x7777), std::vector<std::byte>(8));
  CHECK(bad.closing_reason() == "protocol error: an unknown opcode");
  CHECK(bad.farewell() == "protocol error: an unknown opcode");
  CHECK(good.status_of(wire::Ping(0)) == 0);
}

TEST_CASE("Garbage, half a preamble and another version do not disturb the broker") {
  Serving serving;
  auto garbage = connect(serving.address());
  worker::send_all(*garbage, std::as_bytes(std::span("GET / HTTP/1.1\r\n\r\n")), soon());
  CHECK(is_closed_by_peer(*garbage));
  auto half = connect(serving.address());
  const wire::Preamble preamble = wire::control_preamble();
  worker::send_all(*half, ConstBytes(reinterpret_cast<const std::byte*>(&preamble), 20), soon());
  half.reset();
  auto stranger = connect(serving.address());
  // A data connection of no session.
  std::array<std::byte, sizeof preamble> data;
  std::memcpy(data.data(), &preamble, sizeof preamble);
  data[8] = static_cast<std::byte>(wire::ConnectionKind::Data);
  worker::send_all(*stranger, data, soon());
  CHECK(is_closed_by_peer(*stranger));
  auto flood = connect(serving.address());
  std::vector<std::byte> endless(1u << 20, std::byte{0x7f});
  std::memcpy(endless.data(), &preamble, sizeof preamble);
  worker::send_all(*flood, endless, soon());
  CHECK(is_closed_by_peer(*flood));
  CHECK(RawClient(serving.address(), kToken).problem() == "");
}

TEST_CASE("Many connections that say nothing keep nobody out") {
  Serving serving;
  std::vector<std::unique_ptr<Connection>> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(connect(serving.address()));
  CHECK(RawClient(serving.address(), kToken).problem() == "");
}

TEST_CASE("A data connection with a guessed ticket gets nowhere") {
  Serving serving;
  RawClient client(serving.address(), kToken);
  REQUIRE(client.hello(kBase, kRange).has_value());
  auto thief = connect(serving.address());
  const auto opening = wire::data_opening(client.admission.ticket, wire::Digest{}, 0);  // the right ticket, no key
  worker::send_all(*thief, *opening, soon());
  CHECK(is_closed_by_peer(*thief));
  CHECK(client.status_of(wire::Ping(0)) == 0);
}

TEST_CASE("Sessions that come and go leave no descriptors and no processes behind") {
  Serving serving;
  { RawClient warm(serving.address(), kToken); }
  REQUIRE(eventually([] { return children().empty(); }));
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 10; ++i) {
    RawClient client(serving.address(), kToken);
    REQUIRE(client.problem() == "");
  }
  CHECK(eventually([] { return children().empty(); }));
  CHECK(eventually([&] { return open_descriptors() <= before; }));
}

TEST_CASE("A worker started ahead serves the next session, and another takes its place") {
  Serving serving(kToken, "cpu", "tcp://127.0.0.1:0", 1);
  const auto ahead = children();
  REQUIRE(ahead.size() == 1);
  RawClient client(serving.address(), kToken);
  REQUIRE(client.hello(kBase, kRange).has_value());
  CHECK(eventually([] { return children().size() == 2; }));
  CHECK(client.status_of(wire::Goodbye(0)) == 0);
  CHECK(eventually([&] { return std::ranges::count(children(), ahead.front()) == 0; }));
  RawClient next(serving.address(), kToken);
  CHECK(next.hello(kBase, kRange).has_value());
}

TEST_CASE("A client whose variables matter to CUDA gets a worker that was started with them") {
  Serving serving(kToken, "cpu", "tcp://127.0.0.1:0", 1);
  const auto ahead = children();
  RawClient client(serving.address(), kToken, "auto", {{"CUDA_LAUNCH_BLOCKING", "1"}, {"LD_PRELOAD", "/nonexistent"}});
  REQUIRE(client.hello(kBase, kRange).has_value());
  CHECK(children().size() == 2);
  CHECK(client.status_of(wire::Goodbye(0)) == 0);
  CHECK(eventually([&] { return children() == ahead; }));
  RawClient other(serving.address(), kToken, "auto", {{"LD_PRELOAD", "/nonexistent"}});
  REQUIRE(other.hello(kBase, kRange).has_value());
  CHECK(std::ranges::count(children(), ahead.front()) == 1);
}

TEST_CASE("A worker started ahead that dies is nobody's") {
  Serving serving(kToken, "cpu", "tcp://127.0.0.1:0", 1);
  const auto ahead = children();
  REQUIRE(ahead.size() == 1);
  ::kill(ahead.front(), SIGKILL);
  CHECK(eventually([] { return children().empty(); }));
  RawClient client(serving.address(), kToken);
  CHECK(client.hello(kBase, kRange).has_value());
}

TEST_CASE("The first worker started ahead tells whether there is a GPU") {
  Serving serving(kToken, "auto", "tcp://127.0.0.1:0", 1);
  RawClient client(serving.address(), kToken);
  REQUIRE(client.problem() == "");
  CHECK(client.admission.device == "cpu");
  CHECK(client.admission.reason.find("/nonexistent/libcuda.so.1") != std::string::npos);
  CHECK(client.hello(kBase, kRange).has_value());
}

TEST_CASE("Stopping the broker ends its sessions") {
  auto serving = std::make_unique<Serving>();
  RawClient client(serving->address(), kToken);
  REQUIRE(client.hello(kBase, kRange).has_value());
  serving.reset();
  CHECK(client.closing_reason() == "the executor is being stopped");
  CHECK(children().empty());
}

}  // namespace avec::test
