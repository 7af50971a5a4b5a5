// The engine's round trip: a call that does nothing on the executor.
#include "harness.h"
#include "session/session.h"

namespace avec::bench {

void measure_ping(const Options& options) {
  session::Options wished;
  wished.executor = options.executor;
  wished.program = "avec_bench";
  wished.wait_mode = options.wait_mode();
  wished.spin = kSpin;
  auto opened = session::Session::open(std::move(wished), {});
  if (!opened) fail(opened.error().message);
  auto& session = **opened;
  const auto n = options.samples(20'000), warm = n / 10 + 1;
  const auto before = session.counters().round_trips;
  std::vector<double> times;
  bool verified = true;
  for (std::uint64_t i = 0; i < n + warm; ++i) {
    const auto start = now_ns();
    const auto answer = session.call(wire::Ping(0));
    const auto end = now_ns();
    verified = verified && answer.has_value();
    if (i >= warm) times.push_back(static_cast<double>(end - start) / 1e3);
  }
  verified = verified && session.counters().round_trips - before == n + warm;
  auto row = summarise("ping.session", "us", std::move(times));
  row.verified = verified;
  emit(options, row);
  session.close();
}

}  // namespace avec::bench
