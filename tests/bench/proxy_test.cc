#include "proxy.h"

#include <array>
#include <asio.hpp>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "shape.h"
#include "support/catch.h"

namespace avec::bench {
namespace {

using asio::ip::tcp;
using namespace std::chrono_literals;

unsigned short port_of(const std::string& url) {
  return static_cast<unsigned short>(std::stoi(url.substr(url.rfind(':') + 1)));
}

// A peer that sends back what it gets and closes after the other end has, behind a proxy.
class Echoed {
 public:
  explicit Echoed(const char* shape)
      : acceptor_(context_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    auto listening =
        Proxy::listen({.to = "tcp://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()),
                       .shape = *parse_shape(shape)});
    REQUIRE(listening.has_value());
    proxy_ = std::move(*listening);
    passing_ = std::thread([this] { proxy_->run(); });
    echoing_ = std::thread([this] {
      tcp::socket peer(context_);
      acceptor_.accept(peer);
      std::array<std::byte, 8192> part{};
      for (;;) {
        asio::error_code error;
        const auto got = peer.read_some(asio::buffer(part), error);
        if (error) return;
        asio::write(peer, asio::buffer(part, got), error);
      }
    });
    socket_.connect(tcp::endpoint(asio::ip::address_v4::loopback(), port_of(proxy_->address())));
  }
  ~Echoed() {
    asio::error_code ignored;
    socket_.close(ignored);
    echoing_.join();
    proxy_->stop();
    passing_.join();
  }
  tcp::socket& socket() { return socket_; }

 private:
  asio::io_context context_;
  tcp::acceptor acceptor_;
  tcp::socket socket_{context_};
  std::unique_ptr<Proxy> proxy_;
  std::thread passing_, echoing_;
};

TEST_CASE("every byte goes through a lossy link and back, in order") {
  Echoed echoed("rtt=2ms,rate=400mbit,loss=5%");
  std::vector<std::uint8_t> sent(1 << 20), back(sent.size());
  for (std::size_t i = 0; i < sent.size(); ++i)
    sent[i] = static_cast<std::uint8_t>(i * 31 + (i >> 8) * 7 + (i >> 16));
  std::thread writer([&] { asio::write(echoed.socket(), asio::buffer(sent)); });
  asio::read(echoed.socket(), asio::buffer(back));
  writer.join();
  CHECK(sent == back);
}

TEST_CASE("the end of one direction passes after the last byte, and the other goes on") {
  Echoed echoed("rtt=2ms,rate=100mbit");
  std::vector<std::uint8_t> sent(100'000, 7), back;
  asio::write(echoed.socket(), asio::buffer(sent));
  echoed.socket().shutdown(tcp::socket::shutdown_send);
  asio::error_code error;
  asio::read(echoed.socket(), asio::dynamic_buffer(back), error);
  CHECK(error == asio::error::eof);
  CHECK(back == sent);
}

TEST_CASE("a round trip takes at least as long as the link says") {
  // The least is a bound whatever the machine does; how near it comes, `avec bench shape` measures.
  Echoed echoed("rtt=20ms");
  std::array<std::byte, 64> message{};
  const auto start = std::chrono::steady_clock::now();
  asio::write(echoed.socket(), asio::buffer(message));
  asio::read(echoed.socket(), asio::buffer(message));
  CHECK(std::chrono::steady_clock::now() - start >= 20ms);
}

TEST_CASE("a link whose far end is not there closes") {
  unsigned short nobody = 0;
  {
    asio::io_context context;
    tcp::acceptor gone(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    nobody = gone.local_endpoint().port();
  }
  auto listening = Proxy::listen({.to = "tcp://127.0.0.1:" + std::to_string(nobody)});
  REQUIRE(listening.has_value());
  std::thread passing([&] { (*listening)->run(); });
  asio::io_context context;
  tcp::socket socket(context);
  socket.connect(tcp::endpoint(asio::ip::address_v4::loopback(), port_of((*listening)->address())));
  std::array<std::byte, 1> byte{};
  asio::error_code error;
  asio::read(socket, asio::buffer(byte), error);
  CHECK(error);
  (*listening)->stop();
  passing.join();
}

TEST_CASE("addresses that are none are refused in words") {
  for (const char* url : {"", "edge:7700", "tcp://", "shm://127.0.0.1:1"}) {
    CAPTURE(url);
    CHECK_FALSE(Proxy::listen({.to = url}).has_value());
  }
  CHECK_FALSE(Proxy::listen({.listen = "nonsense", .to = "tcp://127.0.0.1:1"}).has_value());
}

TEST_CASE("calibration takes off no more than the round trip asked for") {
  const auto own = calibrate(*parse_shape("rtt=3ms"));
  REQUIRE(own.has_value());
  CHECK(*own >= 0ns);
  CHECK(*own <= 3ms);
  CHECK(calibrate(*parse_shape("rate=1gbit")) == 0ns);
}

}  // namespace
}  // namespace avec::bench
