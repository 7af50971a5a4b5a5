#include "row.h"

#include <algorithm>
#include <fstream>
#include <numeric>

#include "statistics.h"

namespace avec::bench {

bool Row::same_figure(const Row& other) const {
  return name == other.name && target == other.target && transport == other.transport &&
         bytes == other.bytes && message == other.message && streams == other.streams && batch == other.batch;
}

std::string Row::label() const {
  std::string text = name + " " + target;
  if (!transport.empty()) text += " " + transport;
  if (message != 0)
    text += " " + std::to_string(message) + " B";
  else if (bytes != 0)
    text += " " + std::to_string(bytes) + " B";
  if (streams > 1) text += ", " + std::to_string(streams) + " streams";
  if (batch != 0) text += ", batch " + std::to_string(batch);
  return text;
}

void to_json(nlohmann::json& json, const Row& row) {
  json = {{"name", row.name},
          {"target", row.target},
          {"unit", row.unit},
          {"bytes", row.bytes},
          {"n", row.n},
          {"median", row.median},
          {"p99", row.p99},
          {"p999", row.p999},
          {"min", row.min},
          {"max", row.max},
          {"mean", row.mean},
          {"noise", row.noise},
          {"blocks", row.blocks},
          {"quantiles", row.quantiles},
          {"verified", row.verified}};
  if (!row.transport.empty()) json["transport"] = row.transport;
  if (row.message != 0) json["message"] = row.message;
  if (row.streams != 0) json["streams"] = row.streams;
  if (row.batch != 0) json["batch"] = row.batch;
  if (row.asked != 0) json["asked"] = row.asked;
  if (row.yardstick.empty()) return;
  json["ratio"] = row.ratio;
  json["ratio_noise"] = row.ratio_noise;
  json["yardstick"] = row.yardstick;
}

void from_json(const nlohmann::json& json, Row& row) {
  const Row empty;
  row.name = json.at("name").get<std::string>();
  row.target = json.at("target").get<std::string>();
  row.unit = json.at("unit").get<std::string>();
  row.transport = json.value("transport", row.target == "native" ? "" : "tcp");
  row.bytes = json.value("bytes", empty.bytes);
  row.message = json.value("message", empty.message);
  row.streams = json.value("streams", empty.streams);
  row.batch = json.value("batch", empty.batch);
  row.n = json.value("n", empty.n);
  row.median = json.at("median").get<double>();
  row.min = json.value("min", row.median);
  row.max = json.value("max", 0.0);
  row.mean = json.value("mean", 0.0);
  row.p99 = json.value("p99", row.median);
  row.p999 = json.value("p999", 0.0);
  row.quantiles = json.value("quantiles", std::vector<double>());
  row.blocks = json.value("blocks", std::vector<double>());
  row.noise = json.value("noise", 0.0);
  row.ratio = json.value("ratio", 0.0);
  row.ratio_noise = json.value("ratio_noise", 0.0);
  row.yardstick = json.value("yardstick", std::string());
  row.asked = json.value("asked", 0.0);
  row.verified = json.value("verified", false);
}

Row named_row(std::string_view name, std::string_view target, std::string_view transport,
              std::string_view unit) {
  Row row;
  row.name = name;
  row.target = target;
  row.transport = transport;
  row.unit = unit;
  return row;
}

Row summarise(std::string_view name, std::string_view unit, const std::vector<double>& samples) {
  Row row;
  row.name = name;
  row.unit = unit;
  row.n = samples.size();
  row.blocks = block_medians(samples, kBlocks);
  row.noise = relative_spread(row.blocks);
  row.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
  auto sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  row.min = sorted.front();
  row.max = sorted.back();
  row.median = quantile(sorted, 0.5);
  row.p99 = quantile(sorted, 0.99);
  row.p999 = quantile(sorted, 0.999);
  for (const double share : kQuantiles) row.quantiles.push_back(quantile(sorted, share));
  return row;
}

double gigabytes_per_second(const Row& row) {
  return row.median > 0 ? static_cast<double>(row.bytes) / row.median / 1e3 : 0;
}

bool read_results(const std::string& file, Results& results, std::string& problem) {
  std::ifstream stream(file);
  if (!stream) {
    problem = file + " cannot be read";
    return false;
  }
  std::string line;
  for (unsigned number = 1; std::getline(stream, line); ++number) {
    if (line.empty()) continue;
    const auto object = nlohmann::json::parse(line, nullptr, false);
    try {
      const auto kind = object.at("kind").get<std::string>();
      if (kind == "row") results.rows.push_back(object.get<Row>());
      if (kind == "machine" && results.machine.is_null()) results.machine = object;
    } catch (const nlohmann::json::exception&) {
      problem = file + ":" + std::to_string(number) + " is no line of a result of avec bench --json";
      return false;
    }
  }
  if (results.machine.is_null()) {
    problem = file + " is no result of avec bench --json: no line describes the machine";
    return false;
  }
  return true;
}

}  // namespace avec::bench
