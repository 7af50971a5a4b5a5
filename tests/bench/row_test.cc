#include "row.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "support/catch.h"

namespace avec::bench {
namespace {

struct File {
  explicit File(const std::string& text) {
    char path[] = "/tmp/avec-row-XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd >= 0) ::close(fd);
    name = path;
    std::ofstream(name) << text;
  }
  ~File() { std::remove(name.c_str()); }
  std::string name;
};

TEST_CASE("a row keeps everything on its way through JSON") {
  auto row = summarise("latency", "us", {3, 1, 2, 5, 4});
  row.target = "avec";
  row.transport = "shm";
  row.bytes = 64;
  row.message = 32;
  row.streams = 4;
  row.batch = 8;
  row.ratio = 1.25;
  row.ratio_noise = 0.5;
  row.yardstick = "raw.ping";
  const auto back = nlohmann::json(row).get<Row>();
  CHECK(back.same_figure(row));
  CHECK(nlohmann::json(back) == nlohmann::json(row));
  CHECK(back.min == 1);
  CHECK(back.median == 3);
  CHECK(back.max == 5);
  CHECK(back.mean == 3);
  CHECK(back.blocks == std::vector<double>{3, 1, 2, 5, 4});
  CHECK(back.quantiles.size() == std::size(kQuantiles));
}

TEST_CASE("a row of an older result is read, over tcp as it was then") {
  const auto old = nlohmann::json::parse(
      R"({"bytes":0,"kind":"row","median":118.7,"min":33.9,"n":20000,"name":"raw.ping","p99":2457.3,"target":"raw","unit":"us","verified":true})");
  const auto row = old.get<Row>();
  CHECK(row.transport == "tcp");
  CHECK(row.median == 118.7);
  CHECK(row.blocks.empty());
  CHECK(row.yardstick.empty());
}

TEST_CASE("figures differ by target, transport, size, streams and batch") {
  const auto row = named_row("bandwidth.there", "avec", "tcp", "us");
  for (auto change : {+[](Row& one) { one.target = "raw"; }, +[](Row& one) { one.transport = "shm"; },
                      +[](Row& one) { one.message = 64; }, +[](Row& one) { one.streams = 2; },
                      +[](Row& one) { one.batch = 9; }, +[](Row& one) { one.bytes = 1; }}) {
    auto other = row;
    change(other);
    CHECK_FALSE(row.same_figure(other));
    CHECK(row.label() != other.label());
  }
}

TEST_CASE("a file that is no result is refused with its line") {
  Results results;
  std::string problem;
  const File broken("{\"kind\":\"machine\"}\nnonsense\n");
  CHECK_FALSE(read_results(broken.name, results, problem));
  CHECK(problem.find(":2 ") != std::string::npos);
  const File nobody("{\"kind\":\"row\",\"name\":\"a\",\"target\":\"avec\",\"unit\":\"us\",\"median\":1}\n");
  Results others;
  CHECK_FALSE(read_results(nobody.name, others, problem));
  CHECK(problem.find("no line describes the machine") != std::string::npos);
  CHECK_FALSE(read_results("/nowhere/at/all", others, problem));
}

}  // namespace
}  // namespace avec::bench
