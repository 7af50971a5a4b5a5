#include "transport/rdma/opening.h"

#include <algorithm>
#include <cerrno>

#include "transport/rdma/connection.h"
#include "transport/rdma/exchange.h"
#include "transport/tcp/factory.h"

namespace avec::rdma {
namespace {

using VerbsOrReason = std::expected<std::shared_ptr<const Verbs>, std::string>;

std::expected<std::unique_ptr<QueuePair>, Failure> prepare(const VerbsOrReason& verbs,
                                                           std::string_view device, const Connection& stream,
                                                           Deadline deadline) {
  if (!verbs) return std::unexpected(Failure{{TransportErrc::kNotViable, 0}, verbs.error()});
  const auto wish = DeviceWish::parse(device);
  if (!wish) return std::unexpected(Failure{{TransportErrc::kNotViable, 0}, wish.error()});
  auto port = open_port(*verbs, *wish, addresses_of(tcp::native_descriptor(stream)), deadline);
  if (!port) return std::unexpected(std::move(port.error()));
  return QueuePair::make(std::move(*port));
}

/// One step in which this end says `mine`, empty for "good". Both ends come to the same end.
std::expected<Message, ConnectResult> agree(Connection& stream, Message mine, std::string_view why_not,
                                            Deadline deadline) {
  mine.good = why_not.empty();
  mine.reason = why_not;
  auto theirs = exchange(stream, mine, deadline);
  if (!theirs)
    return std::unexpected(ConnectResult{nullptr, theirs.error().error, std::move(theirs.error().detail)});
  const auto cannot = [](std::string why) {
    return std::unexpected(ConnectResult{nullptr, {TransportErrc::kNotViable, 0}, std::move(why)});
  };
  if (!why_not.empty()) return cannot(std::string(why_not));
  if (!theirs->good) return cannot("the other end cannot use RDMA: " + theirs->reason);
  return std::move(*theirs);
}

/// Why the adapters must not be used, or empty. A stream that ends on this machine and comes from
/// another is forwarded, as ssh -L does it: the adapters would lead past what encrypts it.
std::string_view forwarded(const Connection& stream, const Parameters& peer) {
  if (!stream.same_host()) return {};
  const auto here = machine_identity();
  if (here != 0 && peer.machine == here) return {};
  return "the connection to this machine's own address is forwarded to another machine (a tunnel?), which "
         "RDMA "
         "would bypass";
}

}  // namespace

ConnectResult open_over(std::unique_ptr<Connection>& stream, const VerbsOrReason& verbs,
                        std::string_view device, Deadline deadline) {
  auto pair = prepare(verbs, device, *stream, deadline);
  Message offer{.step = Step::kOffer, .good = false, .parameters = {}, .reason = {}};
  if (pair) offer.parameters = (*pair)->parameters();
  auto theirs = agree(*stream, std::move(offer), pair ? std::string_view() : pair.error().detail, deadline);
  if (!theirs) return std::move(theirs.error());
  const Parameters peer = theirs->parameters;

  std::string why_not(forwarded(*stream, peer));
  if (why_not.empty()) {
    if (auto connected = (*pair)->connect(peer); !connected) why_not = std::move(connected.error().detail);
  }
  std::unique_ptr<RdmaConnection> connection;
  TransportError error;
  if (why_not.empty()) connection = RdmaConnection::make(std::move(*pair), peer, *stream, error);
  if (why_not.empty() && !connection)
    why_not = resource_failure("making an RDMA connection", error.os_error).detail;
  theirs = agree(*stream, {.step = Step::kReady, .good = false, .parameters = {}, .reason = {}}, why_not,
                 deadline);
  if (!theirs) return std::move(theirs.error());

  // Addresses that suit do not mean that packets come through: a firewall lets TCP pass only, or the
  // adapters are on networks that do not meet.
  const auto probed =
      connection->probe(std::min(deadline, std::chrono::steady_clock::now() + kProbeDeadline));
  theirs = agree(*stream, {.step = Step::kVerdict, .good = false, .parameters = {}, .reason = {}},
                 probed.detail, deadline);
  if (!theirs) return std::move(theirs.error());
  connection->start(std::move(stream));
  return {std::move(connection), {}, {}};
}

}  // namespace avec::rdma
