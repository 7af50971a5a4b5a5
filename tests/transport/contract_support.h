// What the cases of the contract share. Included by contract.h, which says what a Backend is.
#pragma once

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "avec/transport.h"
#include "support/catch.h"

namespace avec::contract {

using namespace std::chrono_literals;
using Backend = AVEC_TRANSPORT_BACKEND;

inline Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
/// Long enough for a loaded machine; only a failing test waits for it.
inline Deadline soon() { return in(20s); }

struct Pair {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Connection> client, server;
};

inline std::unique_ptr<Listener> listen(Backend& backend) {
  auto result = backend.transport().listen(backend.listen_url());
  INFO(result.detail);
  REQUIRE(result.listener);
  REQUIRE(result.error.code == TransportErrc::kNone);
  return std::move(result.listener);
}

inline std::unique_ptr<Connection> connect(Backend& backend, const std::string& url) {
  auto result = backend.transport().connect(url, soon());
  INFO(result.detail);
  REQUIRE(result.connection);
  REQUIRE(result.error.code == TransportErrc::kNone);
  return std::move(result.connection);
}

inline std::unique_ptr<Connection> accept(Listener& listener) {
  auto result = listener.accept(soon());
  INFO(result.detail);
  REQUIRE(result.connection);
  return std::move(result.connection);
}

inline Pair connected(Backend& backend) {
  Pair pair;
  pair.listener = listen(backend);
  pair.client = connect(backend, pair.listener->address());
  pair.server = accept(*pair.listener);
  return pair;
}

inline IoResult send_text(Connection& connection, std::string_view text) {
  const ConstBytes bytes = std::as_bytes(std::span(text));
  return connection.send({&bytes, 1});
}

/// Receives until `bytes` have come, or an error, or the deadline.
inline TransportError receive_all(Connection& connection, std::vector<std::byte>& into, std::size_t bytes) {
  const auto start = into.size();
  into.resize(start + bytes);
  std::size_t got = 0;
  while (got < bytes) {
    const MutableBytes rest(into.data() + start + got, bytes - got);
    const auto result = connection.receive({&rest, 1});
    got += result.bytes;
    TransportError error = result.error;
    if (!error && result.bytes == 0) error = connection.wait(false, soon());
    if (error) {
      into.resize(start + got);
      return error;
    }
  }
  return {};
}

inline std::string receive_text(Connection& connection, std::size_t bytes) {
  std::vector<std::byte> got;
  receive_all(connection, got, bytes);
  return {reinterpret_cast<const char*>(got.data()), got.size()};
}

inline TransportError send_all(Connection& connection, ConstBytes bytes) {
  while (!bytes.empty()) {
    const auto result = connection.send({&bytes, 1});
    if (result.error) return result.error;
    bytes = bytes.subspan(result.bytes);
    if (result.bytes == 0) {
      if (const auto error = connection.wait(true, soon())) return error;
    }
  }
  return {};
}

/// What receive() says at last, with what came before thrown away.
inline TransportErrc end_of(Connection& connection) {
  std::vector<std::byte> ignored(64 << 10);
  while (true) {
    const MutableBytes into(ignored);
    const auto result = connection.receive({&into, 1});
    if (result.error) return result.error.code;
    if (result.bytes == 0) {
      if (const auto error = connection.wait(false, soon())) return error.code;
    }
  }
}

inline std::vector<std::byte> random_bytes(std::size_t bytes, std::uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> data((bytes + 7) / 8 * 8);
  for (std::size_t i = 0; i < data.size(); i += 8) {
    const auto value = random();
    std::memcpy(data.data() + i, &value, 8);
  }
  data.resize(bytes);
  return data;
}

/// Sends in gathers of random sizes (empty buffers among them).
inline TransportError send_scattered(Connection& connection, ConstBytes bytes, std::uint32_t seed,
                                     std::size_t largest) {
  std::minstd_rand random(seed);
  while (!bytes.empty()) {
    std::vector<ConstBytes> buffers;
    std::size_t offset = 0;
    for (unsigned i = 0, n = 1 + random() % 9; i < n; ++i) {
      const auto size =
          std::min<std::size_t>(random() % 4 == 0 ? 0 : random() % largest, bytes.size() - offset);
      buffers.push_back(bytes.subspan(offset, size));
      offset += size;
    }
    const auto result = connection.send(buffers);
    if (result.error) return result.error;
    if (result.bytes > offset) return {TransportErrc::kInternal, 0};
    bytes = bytes.subspan(result.bytes);
    if (result.bytes == 0 && offset > 0) {
      if (const auto error = connection.wait(true, soon())) return error;
    }
  }
  return {};
}

inline TransportError receive_scattered(Connection& connection, MutableBytes bytes, std::uint32_t seed,
                                        std::size_t largest) {
  std::minstd_rand random(seed);
  while (!bytes.empty()) {
    std::vector<MutableBytes> buffers;
    std::size_t offset = 0;
    for (unsigned i = 0, n = 1 + random() % 9; i < n; ++i) {
      const auto size =
          std::min<std::size_t>(random() % 4 == 0 ? 0 : random() % largest, bytes.size() - offset);
      buffers.push_back(bytes.subspan(offset, size));
      offset += size;
    }
    const auto result = connection.receive(buffers);
    if (result.error) return result.error;
    bytes = bytes.subspan(result.bytes);
    if (result.bytes == 0 && offset > 0) {
      if (const auto error = connection.wait(false, soon())) return error;
    }
  }
  return {};
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

inline bool poll_readable(int descriptor, std::chrono::milliseconds time) {
  pollfd entry{descriptor, POLLIN, 0};
  return ::poll(&entry, 1, static_cast<int>(time.count())) == 1;
}

}  // namespace avec::contract
