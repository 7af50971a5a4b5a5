#include "plot.h"

#include "support/catch.h"

namespace avec::bench {
namespace {

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

Results results() {
  Results made;
  made.machine = {
      {"kind", "machine"}, {"date", "2026-11-23T12:00:00Z"}, {"cores", 2}, {"cpu", "A & B <C>"}, {"gpu", ""}};
  for (const char* target : {"raw", "avec"}) {
    for (const char* transport : {"tcp", "shm"}) {
      for (const std::uint64_t bytes : {64u, 4096u, 65536u}) {
        auto row = named_row("latency", target, transport, "us");
        row.bytes = bytes;
        row.median = 10 + static_cast<double>(bytes) / 1000;
        made.rows.push_back(row);
      }
    }
  }
  return made;
}

TEST_CASE("every transport and every yardstick is a line, told apart by colour, marker and dashes") {
  const auto picture = plot(results());
  CHECK(picture.starts_with("<?xml"));
  CHECK(picture.ends_with("</svg>\n"));
  for (const char* label : {">tcp<", ">tcp yardstick<", ">shm<", ">shm yardstick<"})
    CHECK(count(picture, label) == 1);
  CHECK(count(picture, "stroke-dasharray") == 4);  // two yardsticks, each drawn and explained
  CHECK(count(picture, "<circle") == 2 * (3 + 1));
  CHECK(count(picture, "<polygon") == 2 * (3 + 1));
  CHECK(count(picture, "#0072B2") > 0);
  CHECK(count(picture, "#009E73") > 0);
}

TEST_CASE("what the machine is called cannot break the picture") {
  const auto picture = plot(results());
  CHECK(picture.find("A &amp; B &lt;C&gt;") != std::string::npos);
}

TEST_CASE("without a figure at two sizes there is no picture, and the file is not written") {
  auto few = results();
  few.rows.resize(1);
  CHECK(plot(few).empty());
  CHECK_FALSE(write_plot(few, "/nowhere/at/all.svg").empty());
  CHECK_FALSE(write_plot(results(), "/nowhere/at/all.svg").empty());
}

TEST_CASE("a yardstick of bandwidth is drawn with what it measures") {
  auto made = results();
  made.rows.clear();
  for (const char* name : {"bandwidth.there", "memcpy.bandwidth.there"}) {
    for (const std::uint64_t message : {1024u, 65536u}) {
      auto row = named_row(name, name[0] == 'm' ? "raw" : "avec", "shm", "us");
      row.message = message;
      row.bytes = message * 100;
      row.streams = 1;
      row.median = 100;
      made.rows.push_back(row);
    }
  }
  const auto picture = plot(made);
  CHECK(count(picture, ">memcpy<") == 1);
  CHECK(count(picture, ">shm<") == 1);
}

}  // namespace
}  // namespace avec::bench
