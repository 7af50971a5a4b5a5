// What a program asks again and again: of streams, events, pointers, devices.
#include <functional>
#include <vector>

#include "driver.h"

namespace avec::bench {

// Each question a thousand times in a row is one sample. Work is known to be complete, as when a
// program polls; "pending" is an event behind work that is not.
void measure_queries(const Options& options) {
  constexpr std::uint64_t kRow = 1000;
  Driver driver(options);
  driver.open();
  driver.load();
  CUstream stream{};
  CUevent event{};
  CUdeviceptr counter{};
  AVEC_CHECK(driver.stream_create(&stream, CU_STREAM_NON_BLOCKING));
  AVEC_CHECK(driver.event_create(&event, CU_EVENT_DISABLE_TIMING));
  AVEC_CHECK(driver.mem_alloc(&counter, sizeof(unsigned)));
  AVEC_CHECK(driver.memset32(counter, 0, 1));
  void* arguments[] = {&counter};
  AVEC_CHECK(driver.launch(driver.count, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr));
  AVEC_CHECK(driver.event_record(event, stream));
  AVEC_CHECK(driver.stream_synchronize(stream));

  struct Question {
    const char* name;
    std::function<CUresult()> ask;
  };
  const std::vector<Question> questions = {
      {"query.event", [&] { return driver.event_query(event); }},
      {"query.stream", [&] { return driver.stream_query(stream); }},
      {"query.capturing",
       [&] {
         CUstreamCaptureStatus status;
         return driver.is_capturing(stream, &status);
       }},
      {"query.pointer",
       [&] {
         unsigned type;
         return driver.pointer_attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, counter);
       }},
      {"query.device_attribute",
       [&] {
         int value;
         return driver.device_attribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);
       }},
      {"query.context",
       [&] {
         CUcontext context;
         return driver.get_current(&context);
       }},
  };
  unsigned launched = 1;
  const auto n = options.samples(500);
  for (const Question& question : questions) {
    std::vector<double> samples;
    bool answered = true;
    for (std::uint64_t i = 0; i < n + 2; ++i) {
      const auto start = now_ns();
      for (std::uint64_t k = 0; k < kRow; ++k) answered = question.ask() == CUDA_SUCCESS && answered;
      if (i >= 2) samples.push_back(static_cast<double>(now_ns() - start) / static_cast<double>(kRow));
    }
    auto row = summarise(question.name, "ns", samples);
    row.verified = answered;
    emit(options, row);
  }

  // Record, then ask until the work is done: how long until a poller knows.
  std::vector<double> known;
  bool right = true;
  for (std::uint64_t i = 0; i < options.samples(2000); ++i) {
    const auto start = now_ns();
    AVEC_CHECK(driver.launch(driver.count, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr));
    AVEC_CHECK(driver.event_record(event, stream));
    CUresult result;
    while ((result = driver.event_query(event)) == CUDA_ERROR_NOT_READY) {
    }
    right = right && result == CUDA_SUCCESS;
    ++launched;
    if (i >= 10) known.push_back(static_cast<double>(now_ns() - start) / 1e3);
  }
  unsigned seen = 0;
  AVEC_CHECK(driver.stream_synchronize(stream));
  AVEC_CHECK(driver.from_device(&seen, counter, sizeof seen));
  if (known.empty()) return;
  auto row = summarise("launch.polled", "us", known);
  row.verified = right && seen == launched;
  emit(options, row);
}

}  // namespace avec::bench
