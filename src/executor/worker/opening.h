// The beginning of a data connection, on the executor's side.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>

#include "avec/transport.h"
#include "base/limits.h"
#include "wire/handshake.h"

namespace avec::worker {

/// Receives exactly `bytes` until the deadline; false: the peer left or was too slow.
bool receive_all(Connection& connection, MutableBytes bytes, Deadline deadline);
bool send_all(Connection& connection, ConstBytes bytes, Deadline deadline);

/// What a client was given to come back with, and what it has done with it: each opening is good once, and the
/// first must come in time.
class Ticket {
 public:
  using Clock = std::chrono::steady_clock;
  /// `encrypted`: behind their preambles connections are of TLS, with a key made from `key`.
  Ticket(const wire::TicketId& id, const wire::Digest& key, bool encrypted,
         Clock::duration lifetime = limits::kTicketLifetime)
      : id_(id), key_(key), encrypted_(encrypted), first_until_(Clock::now() + lifetime) {}

  const wire::TicketId& id() const { return id_; }
  const wire::Digest& key() const { return key_; }
  bool encrypted() const { return encrypted_; }
  /// An opening whose proof is good. Any thread.
  wire::Answer<> use(const wire::Preamble& opening);

 private:
  const wire::TicketId id_;
  const wire::Digest key_;
  const bool encrypted_;
  const Clock::time_point first_until_;
  std::mutex mutex_;
  bool opened_ = false;
  std::set<std::uint32_t> used_;  // serials, the newest
  std::uint32_t forgotten_ = 0;   // all up to this count as used
};

/// Reads preamble and proof, encrypts between them where the ticket says so, checks them, and upgrades the
/// connection as the client asks. Returns the preamble; `connection` is then the one on which
/// DataAccept and frames travel, or a stripe. A refusal has been sent when this returns one.
wire::Answer<wire::Preamble> check_opening(std::unique_ptr<Connection>& connection, Ticket& ticket, Deadline deadline);
/// The same when the preamble has been read already.
wire::Answer<wire::Preamble> check_proof(std::unique_ptr<Connection>& connection, ConstBytes preamble, Ticket& ticket,
                                         Deadline deadline);

}  // namespace avec::worker
