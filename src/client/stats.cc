#include "client/stats.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "base/settings.h"
#include "client/client.h"
#include "client/process.h"
#include "client/trace.h"
#include "session/session.h"

namespace avec::client {

constinit std::atomic<Counting> counting{Counting::kUndecided};

namespace {

using Clock = std::chrono::steady_clock;

struct Record {
  std::uint64_t calls = 0, posted = 0, waited = 0, round_trips = 0, bytes_sent = 0, bytes_received = 0,
                source_waits = 0, one_sided_bytes = 0, payload_copied = 0;
  Clock::duration time{};
};

struct Call {
  const char* name;
  Clock::time_point begin;
  session::Counters before;
};

struct Book {
  std::mutex mutex;
  bool on = false;  ///< else calls are only traced
  std::map<std::string_view, Record> records;  // names are static
  std::string destination;
};

Book& book() {
  static auto* const the_book = new Book;  // calls may come while the process ends
  return *the_book;
}

/// Of the process's session; with several threads a call also sees what others did meanwhile.
session::Counters counters_now() {
  CUresult ignored;
  Client* client = process_client(ignored);
  return client != nullptr ? client->session().counters() : session::Counters{};
}

/// The thread's outermost call; a name of null: none is under way.
Call& open_call() {
  thread_local Call call{};
  return call;
}

std::vector<std::pair<std::string_view, Record>> sorted_records() {
  std::scoped_lock lock(book().mutex);
  std::vector<std::pair<std::string_view, Record>> rows(book().records.begin(), book().records.end());
  std::ranges::sort(rows, [](const auto& a, const auto& b) {
    return a.second.time != b.second.time ? a.second.time > b.second.time : a.first < b.first;
  });
  return rows;
}

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

}  // namespace

std::string stats_text() {
  std::string text;
  char line[384];
  std::snprintf(line, sizeof line, "%-40s %10s %10s %10s %11s %14s %14s %14s %14s %12s %10s\n", "function",
                "calls", "posted", "waited", "round trips", "bytes sent", "bytes received", "one-sided",
                "copied", "total us", "mean us");
  text += line;
  for (const auto& [name, record] : sorted_records()) {
    std::snprintf(line, sizeof line,
                  "%-40.*s %10llu %10llu %10llu %11llu %14llu %14llu %14llu %14llu %12.0f %10.2f\n",
                  static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(record.calls),
                  static_cast<unsigned long long>(record.posted),
                  static_cast<unsigned long long>(record.waited),
                  static_cast<unsigned long long>(record.round_trips),
                  static_cast<unsigned long long>(record.bytes_sent),
                  static_cast<unsigned long long>(record.bytes_received),
                  static_cast<unsigned long long>(record.one_sided_bytes),
                  static_cast<unsigned long long>(record.payload_copied), microseconds(record.time),
                  microseconds(record.time) / static_cast<double>(record.calls));
    text += line;
  }
  const session::Counters total = counters_now();
  std::snprintf(line, sizeof line,
                "session: %llu round trips, %llu bytes sent, %llu bytes received, %llu waits for a source, "
                "%llu bytes of payload beside the stream, %llu bytes of payload copied\n",
                static_cast<unsigned long long>(total.round_trips),
                static_cast<unsigned long long>(total.bytes_sent),
                static_cast<unsigned long long>(total.bytes_received),
                static_cast<unsigned long long>(total.source_waits),
                static_cast<unsigned long long>(total.one_sided_bytes),
                static_cast<unsigned long long>(total.payload_copied));
  return text + line;
}

std::string stats_json() {
  nlohmann::json functions = nlohmann::json::array();
  for (const auto& [name, record] : sorted_records()) {
    functions.push_back({{"name", std::string(name)},
                         {"calls", record.calls},
                         {"posted", record.posted},
                         {"waited", record.waited},
                         {"round_trips", record.round_trips},
                         {"bytes_sent", record.bytes_sent},
                         {"bytes_received", record.bytes_received},
                         {"source_waits", record.source_waits},
                         {"one_sided_bytes", record.one_sided_bytes},
                         {"payload_copied", record.payload_copied},
                         {"microseconds", microseconds(record.time)}});
  }
  const session::Counters total = counters_now();
  const nlohmann::json session{{"posted", total.posted},
                               {"waited", total.waited},
                               {"round_trips", total.round_trips},
                               {"bytes_sent", total.bytes_sent},
                               {"bytes_received", total.bytes_received},
                               {"source_waits", total.source_waits},
                               {"one_sided_bytes", total.one_sided_bytes},
                               {"payload_copied", total.payload_copied}};
  return nlohmann::json{{"functions", functions}, {"session", session}}.dump(2) + "\n";
}

void start_stats(const std::string& setting) {
  const bool on = !setting.empty() && setting != "0";
  if (on) book().destination = setting;
  book().on = on;
  counting.store(on || process_trace() != nullptr ? Counting::kOn : Counting::kOff);
}

void write_stats() {
  if (counting.exchange(Counting::kOff) != Counting::kOn || !book().on) return;
  const std::string& destination = book().destination;
  const std::string text = destination.ends_with(".json") ? stats_json() : stats_text();
  if (destination == "1") {
    std::fwrite(text.data(), 1, text.size(), stderr);
    return;
  }
  std::ofstream file(destination);
  file << text;
  if (!file.flush()) say("cannot write the statistics to " + destination);
}

}  // namespace avec::client

using namespace avec::client;

void* avec_call_begin(const char* name) {
  if (counting.load(std::memory_order_relaxed) == Counting::kOff) return nullptr;
  if (counting.load(std::memory_order_relaxed) == Counting::kUndecided) {
    static const bool decided = (start_stats(std::string(avec::client_settings().text("stats"))), true);
    if (!decided || counting.load(std::memory_order_relaxed) == Counting::kOff) return nullptr;
  }
  Call& call = open_call();
  if (call.name != nullptr) return nullptr;
  call = Call{name, Clock::now(), book().on ? counters_now() : avec::session::Counters{}};
  return &call;
}

void avec_call_end(void* opaque) {
  if (opaque == nullptr) return;
  const Call call = std::exchange(open_call(), Call{});
  const auto end = Clock::now();
  const auto time = end - call.begin;
  if (Trace* trace = process_trace()) trace->call(call.name, call.begin, end);
  if (!book().on) return;
  const auto now = counters_now();
  std::scoped_lock lock(book().mutex);
  Record& record = book().records[call.name];
  ++record.calls;
  if (now.posted != call.before.posted && now.waited == call.before.waited) ++record.posted;
  if (now.waited != call.before.waited) ++record.waited;
  record.round_trips += now.round_trips - call.before.round_trips;
  record.bytes_sent += now.bytes_sent - call.before.bytes_sent;
  record.bytes_received += now.bytes_received - call.before.bytes_received;
  record.source_waits += now.source_waits - call.before.source_waits;
  record.one_sided_bytes += now.one_sided_bytes - call.before.one_sided_bytes;
  record.payload_copied += now.payload_copied - call.before.payload_copied;
  record.time += time;
}
