#include "one_sided.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"

namespace avec::bench {
namespace {

constexpr std::size_t kPage = 4096;
// Accesses under way at once: as many chunks as perftest keeps reads under way.
constexpr std::uint64_t kUnderWay = 16;

std::size_t pages(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

MutableBytes allocated(OneSided& side, std::uint64_t bytes) {
  const auto made = side.allocate(pages(bytes), nullptr);
  if (made.error) fail("no memory for one-sided access: " + std::string(to_string(made.error.code)));
  return made.memory.first(bytes);
}

// What every byte of a message is, in the order of its place.
void fill(MutableBytes memory) {
  Messages messages(memory.size());
  const auto message = messages.numbered(0).front();
  std::memcpy(memory.data(), message.data(), message.size());
}

// Gives back what has ended; ends the process when an access has failed.
std::uint64_t ended(OneSided& side) {
  OneSidedCompletion some[kUnderWay];
  const auto count = side.completed(some);
  for (std::size_t i = 0; i < count; ++i) {
    if (some[i].error) fail("a one-sided access failed: " + std::string(to_string(some[i].error.code)));
  }
  return count;
}

}  // namespace

bool moves_one_sided(Channel& channel) {
  auto* side = channel.one_sided();
  return side != nullptr && !side->traits().maps;
}

std::function<void(std::uint64_t, std::vector<double>&)> one_sided_movements(Channel& channel, Command::Op op,
                                                                             std::uint64_t message,
                                                                             std::uint64_t messages,
                                                                             bool& right) {
  auto& side = *channel.one_sided();
  const auto memory = allocated(side, message);
  return [&channel, &side, memory, op, message, messages, &right](std::uint64_t count,
                                                                  std::vector<double>& samples) {
    const Command command{op, 1, message, messages};
    const Messages expected(message);
    for (std::uint64_t i = 0; i < count; ++i) {
      if (op == Command::kRead)
        fill(memory);
      else
        std::memset(memory.data(), 0, memory.size());
      const auto start = now_ns();
      RemoteKey key;
      if (side.allow(memory, op == Command::kRead ? RemoteAccess::kRead : RemoteAccess::kWrite, key))
        fail("memory could not be allowed to the peer");
      std::int64_t wrong = 0;
      if (!channel.send(std::as_bytes(std::span(&command, 1))) ||
          !channel.send(std::as_bytes(std::span(&key, 1))) ||
          !channel.receive(std::as_writable_bytes(std::span(&wrong, 1)))) {
        fail("the peer of a measurement is gone");
      }
      side.revoke(key);
      samples.push_back(static_cast<double>(now_ns() - start) / 1e3);
      // The peer judges what it has read while nobody waits for it: its answer to the next command.
      if (op == Command::kRead) {
        const Command judge{Command::kJudge, 1, message, 1};
        if (!channel.send(std::as_bytes(std::span(&judge, 1))) ||
            !channel.receive(std::as_writable_bytes(std::span(&wrong, 1)))) {
          fail("the peer of a measurement is gone");
        }
        right = right && wrong == 0;
      } else {
        right = right && expected.right(memory, 0, true);
      }
    }
  };
}

bool serve_one_sided(Channel& channel, const Command& command) {
  auto* side = channel.one_sided();
  if (side == nullptr) fail("the peer's connection has no one-sided access");
  // A thread serves one connection.
  static thread_local MutableBytes memory;
  static thread_local bool filled = false;  // holds what is written
  RemoteKey key;
  std::int64_t wrong = 0;
  if (command.op == Command::kJudge) {
    wrong = memory.size() == command.message && Messages(memory.size()).right(memory, 0, true) ? 0 : 1;
    std::memset(memory.data(), 0, memory.size());  // what is read next must come again
    filled = false;
    return channel.send(std::as_bytes(std::span(&wrong, 1)));
  }
  if (!channel.receive(std::as_writable_bytes(std::span(&key, 1)))) return false;
  if (memory.size() != command.message) {
    if (!memory.empty()) side->free({memory.data(), pages(memory.size())}, false);
    memory = allocated(*side, command.message);
    filled = false;
  }
  if (command.op == Command::kWrite && !filled) fill(memory);  // while warming up
  filled = command.op == Command::kWrite;
  const auto piece = std::min<std::uint64_t>(command.message, limits::kChunkBytes);
  std::uint64_t started = 0, done = 0;
  Channel::Patience patience(channel);
  const auto total = command.message * command.messages;
  for (std::uint64_t at = 0; at < total || done < started;) {
    std::uint64_t moved = 0;
    if (at < total && started - done < kUnderWay) {
      const auto offset = at % command.message, bytes = std::min(piece, command.message - offset);
      const auto part = memory.subspan(offset, bytes);
      const auto begun = command.op == Command::kRead ? side->read(key, offset, part, started)
                                                      : side->write(key, offset, part, started);
      if (begun.error) fail("a one-sided access was refused: " + std::string(to_string(begun.error.code)));
      moved = begun.bytes;
      at += begun.bytes;
      if (begun.bytes != 0) ++started;
    }
    const auto ends = ended(*side);
    done += ends;
    if (moved != 0 || ends != 0)
      patience.moved();
    else
      patience.pause(false);
  }
  return channel.send(std::as_bytes(std::span(&wrong, 1)));
}

}  // namespace avec::bench
