// Handshake messages as each side receives them. The first byte chooses the reader.
#include <array>
#include <cstring>

#include "fuzz/target.h"
#include "wire/handshake.h"

namespace wire = avec::wire;

namespace {

constexpr const char* kToken = "a token for fuzzing only";

avec::ConstBytes without_length(const wire::Bytes& message) { return avec::ConstBytes(message).subspan(4); }

std::vector<std::uint8_t> tagged(std::uint8_t tag, avec::ConstBytes bytes) {
  std::vector<std::uint8_t> all{tag};
  for (std::byte b : bytes) all.push_back(static_cast<std::uint8_t>(b));
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // Readers may rely on alignment, as the buffers of the real receivers have it.
  std::vector<std::byte> bytes(size - 1);
  std::memcpy(bytes.data(), data + 1, bytes.size());
  switch (data[0] % 6) {
    case 0: {
      wire::ClientHandshake client(kToken);
      if (auto answer = client.answer(bytes, {})) (void)client.finish(bytes);
      break;
    }
    case 1: {
      wire::BrokerHandshake broker(kToken);
      (void)broker.challenge("0");
      (void)broker.check(bytes);
      break;
    }
    case 2: {
      wire::BrokerHandshake broker("");
      (void)broker.challenge("0");
      if (broker.check(bytes)) (void)broker.ticket("cpu", "");
      break;
    }
    case 3:
      (void)wire::parse_farewell(bytes);
      break;
    case 4:
      if (bytes.size() >= wire::kPreambleBytes) (void)wire::parse_preamble(avec::ConstBytes(bytes).first(wire::kPreambleBytes));
      if (bytes.size() >= wire::kDataOpeningBytes)
        (void)wire::check_data_opening(avec::ConstBytes(bytes).first(wire::kDataOpeningBytes), {}, {});
      break;
    default: {
      wire::MessageReceiver receiver;
      for (std::size_t at = 0; at < bytes.size() && !receiver.complete();) {
        const auto space = receiver.space();
        const std::size_t part = std::min(space.size(), bytes.size() - at);
        std::memcpy(space.data(), bytes.data() + at, part);
        at += part;
        if (!receiver.advance(part)) break;
      }
      break;
    }
  }
  return 0;
}

std::vector<std::vector<std::uint8_t>> fuzz_seeds() {
  wire::BrokerHandshake broker(kToken);
  wire::ClientHandshake client(kToken);
  const auto challenge = broker.challenge("1.0");
  wire::Introduction introduction;
  introduction.host = "laptop";
  introduction.program = "openpose.bin";
  introduction.environment = {{"CUDA_VISIBLE_DEVICES", "0"}};
  const auto hello = client.answer(without_length(*challenge), introduction);
  (void)broker.check(without_length(*hello));
  const auto reply = broker.ticket("cpu", "no GPU");
  const wire::Preamble preamble = wire::control_preamble();
  const auto opening = wire::data_opening({}, {}, 0);
  return {tagged(0, without_length(*challenge)),
          tagged(0, without_length(*reply)),
          tagged(1, without_length(*hello)),
          tagged(2, without_length(*hello)),
          tagged(3, without_length(wire::farewell("killed by signal 9"))),
          tagged(4, std::as_bytes(std::span(&preamble, 1))),
          tagged(4, *opening),
          tagged(5, *hello)};
}
