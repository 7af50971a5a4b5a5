// The fatbin container, as a client's program or an executor's client may give it.
#include <fstream>
#include <iterator>
#include <span>

#include "fatbin/fatbin.h"
#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::byte> image(reinterpret_cast<const std::byte*>(data), reinterpret_cast<const std::byte*>(data) + size);
  (void)avec::fatbin::image_kind(image);
  (void)avec::fatbin::filter(image, 9, 0);
  if (auto entries = avec::fatbin::list(image))
    for (const auto& entry : *entries)
      if (entry.plain_bytes < (1u << 20)) (void)avec::fatbin::decompress(entry);
  return 0;
}

std::vector<std::vector<std::uint8_t>> fuzz_seeds() {
  std::vector<std::vector<std::uint8_t>> seeds;
  for (const char* name : {"none", "speed", "balance"}) {
    std::ifstream file(std::string(AVEC_FUZZ_IMAGES) + "/" + name + ".fatbin", std::ios::binary);
    if (file) seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}
