#include "intercept/runtime/index.h"

#include <atomic>
#include <thread>
#include <vector>

#include "support/catch.h"

using avec::runtime::PointerIndex;

namespace {

const void* key(std::size_t i) { return reinterpret_cast<const void*>((i + 1) * 16); }

}  // namespace

TEST_CASE("The index finds what was inserted and nothing else") {
  PointerIndex<int> index;
  CHECK(index.find(key(0)) == nullptr);
  std::vector<int> values(10000);
  for (std::size_t i = 0; i < values.size(); ++i) index.insert(key(i), &values[i]);
  for (std::size_t i = 0; i < values.size(); ++i) REQUIRE(index.find(key(i)) == &values[i]);
  CHECK(index.find(key(values.size())) == nullptr);
  CHECK(index.find(nullptr) == nullptr);
}

TEST_CASE("A key keeps its first value until that is erased") {
  PointerIndex<int> index;
  int first = 1;
  int second = 2;
  index.insert(key(1), &first);
  index.insert(key(1), &second);
  CHECK(index.find(key(1)) == &first);
  index.erase(key(1), &second);
  CHECK(index.find(key(1)) == &first);
  index.erase(key(1), &first);
  CHECK(index.find(key(1)) == nullptr);
  index.insert(key(1), &second);
  CHECK(index.find(key(1)) == &second);
}

TEST_CASE("Erased keys do not fill the index") {
  PointerIndex<int> index;
  int value = 0;
  for (std::size_t i = 0; i < 100000; ++i) {
    index.insert(key(i), &value);
    index.erase(key(i), &value);
  }
  index.insert(key(7), &value);
  CHECK(index.find(key(7)) == &value);
  CHECK(index.find(key(8)) == nullptr);
}

TEST_CASE("Readers find what is there while others insert") {
  PointerIndex<int> index;
  std::vector<int> values(20000);
  std::atomic<std::size_t> inserted{0};
  std::atomic<bool> wrong{false};
  std::thread reader([&] {
    while (inserted < values.size())
      for (std::size_t i = 0, end = inserted; i < end; i += 97)
        if (index.find(key(i)) != &values[i]) wrong = true;
  });
  for (std::size_t i = 0; i < values.size(); ++i) {
    index.insert(key(i), &values[i]);
    inserted = i + 1;
  }
  reader.join();
  CHECK_FALSE(wrong);
}
