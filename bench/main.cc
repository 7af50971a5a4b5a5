// avec_bench: the program behind `avec bench`.
//
// The suite only starts other processes and prints. Each measurement runs in a process of its own
// ("avec_bench measure NAME OPTIONS"): over each transport, and natively where there is a GPU.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "compare.h"
#include "plot.h"
#include "proxy.h"
#include "shape.h"
#include "suite.h"

namespace avec::bench {
namespace {

constexpr int kUsage = 2;

Proxy* running = nullptr;  // of run_proxy, for the signal handler

std::string not_a_shape(const std::string& text) {
  const auto shape = parse_shape(text);
  return shape ? "" : shape.error();
}

/// The options of every part of the suite.
void add_options(CLI::App& command, Wishes& wishes) {
  auto& options = wishes.options;
  command
      .add_option("--transport", wishes.transports,
                  "Schemes, with commas: tcp,shm,rdma,sim. Default: all that work here, but sim")
      ->delimiter(',');
  command
      .add_option("--shape", options.shape,
                  "Shape of the link: rtt=5ms,rate=100mbit,loss=0.1%, or a preset: " + shape_presets())
      ->check(not_a_shape);
  command.add_option("--json", wishes.json_file, "Write one JSON object a line to this file");
  command.add_option("--plot", wishes.plot_file, "Draw the curves into this SVG file");
  command.add_option("--wait", options.wait, "How both sides wait")
      ->check(CLI::IsMember({"spin", "adaptive", "block"}));
  command.add_option("-n", options.count,
                     "So many samples of each figure, instead of as many as make it stable");
  command.add_option("--seconds", options.seconds, "Time for each figure, about")
      ->check(CLI::Range(0.01, 60.0));
  command.add_flag("--check", options.check, "Compare every byte, not only the ends of each message");
  command.add_option("--sizes", options.sizes, "Bytes, with commas")
      ->delimiter(',')
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 30));
  command.add_option("--streams", options.streams, "Connections at once, with commas (bandwidth)")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  command.add_option("--batches", options.batches, "Calls or messages at once, with commas (rate)")
      ->delimiter(',');
  command.add_option("--sequence", options.sequence, "File of a recorded call sequence (inference)");
  command.add_option("--address", options.address,
                     "IPv4 address of this machine at which peers and executor listen; rdma's device has it");
  command.add_option("--executor", wishes.executor,
                     "URL of a running executor, instead of starting one here");
  command.add_option("--device", wishes.device, "Device kind of the executor: auto, cuda or cpu");
  command.add_option("--native", wishes.native, "Driver library of the native figures, or none");
}

int run_proxy(Proxy::Options options, const std::string& shape) {
  options.shape = *parse_shape(shape);
  const auto own = calibrate(options.shape);
  if (!own) {
    std::fprintf(stderr, "avec bench: %s\n", own.error().c_str());
    return 1;
  }
  options.own_round_trip = *own;
  if (options.shape.round_trip.count() > 0 && *own >= options.shape.round_trip) {
    std::fprintf(stderr,
                 "avec bench: warning: a proxy on this machine takes %lld us by itself, more than the round "
                 "trip asked for\n",
                 static_cast<long long>(own->count() / 1000));
  }
  auto proxy = Proxy::listen(options);
  if (!proxy) {
    std::fprintf(stderr, "avec bench: %s\n", proxy.error().c_str());
    return 1;
  }
  running = proxy->get();
  struct sigaction action {};
  action.sa_handler = [](int) {
    std::_Exit(0);
  };  // nothing to save, and stop() is no signal handler's business
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  std::printf("listening on %s\n", running->address().c_str());
  std::fflush(stdout);
  running->run();
  return 0;
}

int run_plot(const std::string& file, const std::string& picture) {
  Results results;
  std::string problem;
  if (read_results(file, results, problem)) problem = write_plot(results, picture);
  if (problem.empty()) return 0;
  std::fprintf(stderr, "avec bench: %s\n", problem.c_str());
  return 1;
}

int main(int argc, char** argv) {
  Wishes wishes;
  CLI::App app("What AVEC costs, each figure beside its yardstick of the same run.", "avec bench");
  app.require_subcommand(1);
  std::vector<CLI::App*> parts;
  for (const auto& part : kParts) parts.push_back(app.add_subcommand(part.name, part.help));
  auto* all = app.add_subcommand("all", "Everything but shape");
  parts.push_back(all);
  for (auto* part : parts) add_options(*part, wishes);

  std::string old_file, new_file, by = "time";
  CompareOptions how;
  bool gate = false;
  auto* comparing =
      app.add_subcommand("compare", "Two result files: better, worse or the same, by the noise of each");
  comparing->add_option("OLD", old_file)->required();
  comparing->add_option("NEW", new_file)->required();
  comparing->add_option("--by", by, "What is compared")->check(CLI::IsMember({"time", "ratio"}));
  comparing->add_option("--least-change", how.least_change, "Smaller changes are the same (0.03)");
  comparing->add_option("--noise-factor", how.noise_factor,
                        "Changes within so many times the noise are the same (3)");
  comparing->add_option("--only", how.only, "Only figures that contain this");
  comparing->add_flag("--gate", gate, "Exit status 1 when a figure of AVEC is worse, wrong or missing");

  std::string picture;
  auto* plotting = app.add_subcommand("plot", "Draws the curves of a result file");
  plotting->add_option("RESULT", old_file)->required();
  plotting->add_option("PICTURE", picture, "SVG file")->required();

  Proxy::Options proxy;
  std::string shape;
  auto* proxying =
      app.add_subcommand("proxy", "A link of any shape in front of a TCP endpoint, for any program");
  proxying->add_option("--listen", proxy.listen, "tcp://HOST:PORT");
  proxying->add_option("--to", proxy.to, "tcp://HOST:PORT of the endpoint")->required();
  proxying->add_option("--shape", shape, "As of the other commands")->required()->check(not_a_shape);
  proxying->add_option("--seed", proxy.seed, "Of the losses");

  std::string name, options;
  auto* inner =
      app.add_subcommand("measure", "One measurement in this process, as the program starts it itself")
          ->group("");
  inner->add_option("NAME", name)->required();
  inner->add_option("OPTIONS", options)->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  how.by_ratio = by == "ratio";
  if (inner->parsed()) return run_measurement(name, nlohmann::json::parse(options).get<Options>());
  if (comparing->parsed()) return run_compare(old_file, new_file, how, gate);
  if (plotting->parsed()) return run_plot(old_file, picture);
  if (proxying->parsed()) return run_proxy(proxy, shape);
  for (const auto& part : kParts) {
    const bool one = app.got_subcommand(part.name),
               of_all = all->parsed() && std::string_view(part.name) != "shape";
    if (one || of_all) wishes.parts.push_back(part.name);
  }
  if (app.got_subcommand("shape") && wishes.options.shape.empty()) {
    std::fprintf(stderr, "avec bench: shape needs --shape\n");
    return kUsage;
  }
  return run_suite(wishes);
}

}  // namespace
}  // namespace avec::bench

int main(int argc, char** argv) { return avec::bench::main(argc, argv); }
