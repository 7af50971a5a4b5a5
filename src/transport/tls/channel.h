// TLS over a connected, non-blocking socket: what a TcpConnection sends and receives through once it is
// encrypted. Small buffers of a gather become one record, large ones go into full records from where they lie;
// records leave together, in few system calls.
//
// Threads: one at a time, as of the connection.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/tls/context.h"

namespace avec::tls {

class Channel {
 public:
  /// `name`: whom a client expects, where certificates decide; else unused. The socket is borrowed. Null: out
  /// of memory.
  static std::unique_ptr<Channel> make(std::shared_ptr<const Context> context, int socket, const std::string& name);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Waits until both ends know each other, or until the deadline. reason() says what went wrong.
  TransportError handshake(Deadline deadline) noexcept;

  /// As of Connection. Bytes count as taken when their records have left: those of records that have not are
  /// offered again, first of all, as of every stream that took a prefix.
  IoResult send(std::span<const ConstBytes> buffers) noexcept;
  IoResult receive(std::span<const MutableBytes> buffers) noexcept;
  /// True: receive() has something though the socket may not.
  bool has_received() const noexcept { return may_have_more_; }
  /// Tells the peer that nothing comes behind what was sent. Waits for room, until the deadline.
  void finish(Deadline deadline) noexcept;

  /// Why it failed, a phrase for people; else empty.
  const std::string& reason() const noexcept { return reason_; }
  std::string identity() const { return identity_of(ssl_); }
  bool export_key(std::string_view label, ConstBytes about, std::array<std::byte, 32>& key) const {
    return tls::export_key(ssl_, label, about, key);
  }

 private:
  struct Bio;  // what OpenSSL reads and writes through
  Channel(std::shared_ptr<const Context> context, int socket);

  /// Encrypts; what does not become a record counts as an error.
  bool encrypt(ConstBytes bytes);
  bool encrypt(std::span<const ConstBytes> buffers, std::size_t skip);
  /// Plaintext of records that have left since this was asked last.
  std::size_t take_left() noexcept;
  bool has_kept() const noexcept { return sent_ < kept_.size(); }
  TransportError flush() noexcept;
  IoResult broken() noexcept;

  const std::shared_ptr<const Context> context_;
  const int socket_;
  ssl_st* ssl_ = nullptr;
  struct Record {
    std::size_t plain = 0;  // bytes
    std::size_t end = 0;    // in kept_
  };
  std::vector<std::byte> kept_;   // ciphertext; [sent_, end) has not left
  std::vector<Record> records_;   // of kept_, those that were not counted yet
  std::size_t sent_ = 0;
  std::size_t prepared_ = 0;      // plaintext that became records and has not been reported as taken
  std::size_t left_ = 0;          // of it: what has left
  int socket_error_ = 0;  // errno of the last read or write that failed
  bool open_ = false;     // the handshake has been done, and nothing has failed
  bool may_have_more_ = false;
  TransportError error_;
  std::string reason_;
};

}  // namespace avec::tls
