// What a trace holds, as JSON: nlohmann reads it back.
#include "client/trace.h"

#include "support/catch.h"
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

using namespace avec;
using namespace avec::client;
using namespace std::chrono_literals;

namespace {

std::vector<nlohmann::json> events_of(Trace& trace, std::string_view phase) {
  std::vector<nlohmann::json> found;
  const nlohmann::json file = nlohmann::json::parse(trace.json());
  for (const auto& event : file["traceEvents"])
    if (event["ph"] == phase) found.push_back(event);
  return found;
}

ConstBytes bytes_of(const wire::TraceRecord& record) { return std::as_bytes(std::span(&record, 1)); }

}  // namespace

TEST_CASE("A call of the program becomes a slice with its name and length") {
  Trace trace("unused");
  const auto begin = std::chrono::steady_clock::now();
  trace.call("cudaMalloc", begin, begin + 1500ns);
  const auto slices = events_of(trace, "X");
  REQUIRE(slices.size() == 1);
  CHECK(slices[0]["name"] == "cudaMalloc");
  CHECK(slices[0]["dur"].get<double>() == Approx(1.5));
}

TEST_CASE("A kernel's record becomes a slice of the device, named as in C++, that the call's arrow reaches") {
  Trace trace("unused");
  trace.kernel_name(1, "_Z4axpyfPfi");
  trace.posted(wire::Opcode::LaunchKernel, 7);
  const auto opcode = static_cast<std::uint16_t>(wire::Opcode::LaunchKernel);
  trace.records(0, bytes_of(wire::TraceRecord(7, 3, 1000, 2000, 3000, 4000, 9000, opcode, 0, 1)));
  const auto slices = events_of(trace, "X");
  REQUIRE(slices.size() == 2);  // issued, and on the device
  CHECK(slices[1]["name"] == "axpy(float, float*, int)");
  CHECK(slices[1]["dur"].get<double>() == Approx(5.0));
  for (const char* phase : {"s", "t", "f"}) {
    const auto arrows = events_of(trace, phase);
    REQUIRE(arrows.size() == 1);
    CHECK(arrows[0]["id"] == 7);
  }
}

TEST_CASE("A call that was issued in pieces is one slice of the executor and one of the device for each piece") {
  Trace trace("unused");
  const auto opcode = static_cast<std::uint16_t>(wire::Opcode::CopyToDevice);
  trace.records(0, bytes_of(wire::TraceRecord(7, 3, 1000, 2000, 3000, 4000, 5000, opcode, 0, 0)));
  trace.records(0, bytes_of(wire::TraceRecord(7, 3, 1000, 2000, 3000, 5000, 6000, opcode, 0, 0)));
  CHECK(events_of(trace, "X").size() == 3);
}

TEST_CASE("Names that are no C++ names, not even text, do not damage the file") {
  Trace trace("unused");
  trace.kernel_name(1, "a \"kernel\"\n\\ \xff");
  const auto opcode = static_cast<std::uint16_t>(wire::Opcode::LaunchKernel);
  trace.records(0, bytes_of(wire::TraceRecord(7, 3, 1, 2, 3, 4, 5, opcode, 0, 1)));
  CHECK(events_of(trace, "X").size() == 2);
}

TEST_CASE("Records of unknown calls and of work without the device are kept") {
  Trace trace("unused");
  trace.records(5, bytes_of(wire::TraceRecord(7, 0, 1, 2, 3, 0, 0, 0xfff0, 0, 9)));
  CHECK(events_of(trace, "X").size() == 1);
  const auto metadata = events_of(trace, "M");
  CHECK(metadata.back()["args"]["count"] == 5);
}

TEST_CASE("The process id takes the place of %p in the file's name") {
  const std::string folder = "/tmp/avec-trace-test-";
  Trace trace(folder + "%p.json");
  trace.write();
  const std::string path = folder + std::to_string(::getpid()) + ".json";
  std::ifstream file(path);
  CHECK(nlohmann::json::parse(file).contains("traceEvents"));
  std::remove(path.c_str());
}
