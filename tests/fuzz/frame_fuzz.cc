// Frame header and bodies as the executor and the client receive them: one fuzzer for all opcodes.
#include <cstring>

#include "calls.h"
#include "fuzz/target.h"
#include "golden_frames.h"
#include "wire/frame.h"

namespace wire = avec::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < wire::kHeaderBytes) return 0;
  wire::FrameHeader header;
  std::memcpy(&header, data, sizeof header);
  // What follows the header, in memory aligned as the receivers' is, cut to the body's length.
  std::vector<std::byte> body(size - wire::kHeaderBytes);
  std::memcpy(body.data(), data + wire::kHeaderBytes, body.size());
  if (header.body_bytes() > body.size()) return 0;
  body.resize(header.body_bytes());
  body.shrink_to_fit();
  if (!wire::check_header(header, wire::Sender::kClient) && !wire::check_header(header, wire::Sender::kExecutor)) return 0;
  if (const wire::CallInfo* call = wire::call_info(header.opcode()); call != nullptr) (void)wire::verify_body(header, body);
  (void)wire::dispatch(header, body, [](const wire::FrameHeader&, const auto&) { return avec::Result<>{}; });
  return 0;
}

std::vector<std::vector<std::uint8_t>> fuzz_seeds() {
  std::vector<std::vector<std::uint8_t>> seeds;
  for (const auto& frame : wire::golden_frames()) {
    const auto* header = reinterpret_cast<const std::uint8_t*>(&frame.header);
    const auto* body = reinterpret_cast<const std::uint8_t*>(frame.body.data());
    auto& seed = seeds.emplace_back(header, header + sizeof frame.header);
    seed.insert(seed.end(), body, body + frame.body.size());
  }
  return seeds;
}
