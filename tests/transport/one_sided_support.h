// What the cases of one-sided access share. Included by contract.h.
#pragma once

#include <array>
#include <cerrno>

#include "transport/contract_support.h"

namespace avec::contract {

inline constexpr std::size_t kPage = 4096;

template <class B>
OneSided* access_of(B& backend, Connection& connection) {
  if constexpr (requires { backend.one_sided(connection); }) {
    return backend.one_sided(connection);
  } else {
    return connection.one_sided();
  }
}

/// One end as the cases see it.
struct Side {
  Connection* connection = nullptr;
  OneSided* access = nullptr;
};

/// Two connected ends; false where the backend has no one-sided access.
struct Ends {
  Ends() : pair(connected(backend)) { find(); }
  void find() {
    client = {pair.client.get(), access_of(backend, *pair.client)};
    server = {pair.server.get(), access_of(backend, *pair.server)};
    maps_ = *this && client.access->traits().maps;
  }
  explicit operator bool() const { return client.access != nullptr && server.access != nullptr; }
  bool maps() const { return maps_; }  // constant, and of use after an end is gone

  Backend backend;
  Pair pair;
  Side client, server;

 private:
  bool maps_ = false;
};

/// Memory of one end, allocated.
class Region {
 public:
  Region(const Side& side, std::size_t bytes) : access_(side.access) {
    const auto result = access_->allocate((bytes + kPage - 1) / kPage * kPage, nullptr);
    REQUIRE_FALSE(result.error);
    REQUIRE(result.memory.size() >= bytes);
    memory_ = result.memory;
  }
  ~Region() { access_->free(memory_, false); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  MutableBytes bytes() const { return memory_; }
  MutableBytes part(std::size_t offset, std::size_t size) const { return memory_.subspan(offset, size); }
  void fill(std::byte value) const { std::fill(memory_.begin(), memory_.end(), value); }
  void fill(const std::vector<std::byte>& data) const {
    std::copy(data.begin(), data.end(), memory_.begin());
  }

 private:
  OneSided* access_;
  MutableBytes memory_;
};

inline bool same(ConstBytes a, ConstBytes b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}
inline bool all(ConstBytes bytes, std::byte value) {
  return std::all_of(bytes.begin(), bytes.end(), [&](std::byte b) { return b == value; });
}

inline RemoteKey allowed(const Side& owner, MutableBytes range, RemoteAccess access) {
  RemoteKey key;
  const auto error = owner.access->allow(range, access, key);
  REQUIRE_FALSE(error);
  REQUIRE(key);
  return key;
}

/// Waits for completions; kTimeout when none came in time.
inline TransportError await_completions(const Side& side, std::span<OneSidedCompletion> into,
                                        std::size_t& count) {
  const auto until = soon();
  while ((count = side.access->completed(into)) == 0) {
    if (std::chrono::steady_clock::now() > until) return {TransportErrc::kTimeout, 0};
    const auto error = side.connection->wait(false, until);
    // A connection that is over may still have completions to tell.
    if (error && (count = side.access->completed(into)) == 0) return error;
    if (count != 0) break;
  }
  return {};
}

/// Begins an access, made of `begin(token)`; waits for its end.
template <class Begin>
TransportError finished(const Side& peer, std::size_t bytes, Begin&& begin) {
  static std::atomic<std::uint64_t> tokens{1000};
  const auto token = ++tokens;
  const auto until = soon();
  while (true) {
    const IoResult result = begin(token);
    if (result.error) return result.error;
    if (result.bytes == bytes) break;
    if (result.bytes != 0 || std::chrono::steady_clock::now() > until) return {TransportErrc::kTimeout, 0};
    peer.connection->wait(false, in(1ms));
  }
  OneSidedCompletion ended;
  std::size_t count = 0;
  if (const auto error = await_completions(peer, {&ended, 1}, count)) return error;
  return ended.token == token ? ended.error : TransportError{TransportErrc::kInternal, EBADMSG};
}

inline TransportError in_mapping(const Side& peer, const RemoteKey& key, std::uint64_t offset,
                                 std::size_t bytes, MutableBytes& there) {
  const auto range = peer.access->mapped(key).bytes;
  if (range.empty() || offset > range.size() || bytes > range.size() - offset)
    return {TransportErrc::kInternal, EACCES};
  there = range.subspan(offset, bytes);
  return {};
}

/// Reads, whichever way the backend has; waits for the end.
inline TransportError fetch(const Side& peer, const RemoteKey& key, std::uint64_t offset, MutableBytes into) {
  if (peer.access->traits().maps) {
    MutableBytes there;
    if (const auto error = in_mapping(peer, key, offset, into.size(), there)) return error;
    std::memcpy(into.data(), there.data(), into.size());
    return {};
  }
  return finished(peer, into.size(),
                  [&](std::uint64_t token) { return peer.access->read(key, offset, into, token); });
}

inline TransportError put(const Side& peer, const RemoteKey& key, std::uint64_t offset, ConstBytes from) {
  if (peer.access->traits().maps) {
    MutableBytes there;
    if (const auto error = in_mapping(peer, key, offset, from.size(), there)) return error;
    std::memcpy(there.data(), from.data(), from.size());
    return {};
  }
  return finished(peer, from.size(),
                  [&](std::uint64_t token) { return peer.access->write(key, offset, from, token); });
}

/// A byte of the stream, so that one end knows what the other has done.
inline void tell(const Side& from, const Side& to) {
  REQUIRE(send_text(*from.connection, "!").bytes == 1);
  REQUIRE(receive_text(*to.connection, 1) == "!");
}

}  // namespace avec::contract
