#include "base/range_advice.h"

#include "support/catch.h"

using avec::RangeAdvice;
using Answer = RangeAdvice::Answer;

namespace {

constexpr int kReadMostly = 1, kPreferred = 2, kAccessedBy = 3, kPrefetched = 4, kPreferredType = 5;
constexpr int kSetReadMostly = 1, kUnsetReadMostly = 2, kSetPreferred = 3, kSetAccessedBy = 5;
constexpr RangeAdvice::Location kFirst{RangeAdvice::kDevice, 0}, kSecond{RangeAdvice::kDevice, 1}, kCpu{RangeAdvice::kHost, 0};

int read(const RangeAdvice& advice, int attribute, std::uint64_t begin, std::uint64_t bytes) {
  int value = -77;
  CHECK(advice.read(&value, sizeof value, attribute, begin, bytes) == Answer::kDone);
  return value;
}

}  // namespace

TEST_CASE("advice holds for the range that it was given for") {
  RangeAdvice advice(2);
  CHECK(advice.advise(100, 100, kSetReadMostly, {}) == Answer::kDone);
  CHECK(read(advice, kReadMostly, 100, 100) == 1);
  CHECK(read(advice, kReadMostly, 150, 10) == 1);
  CHECK(read(advice, kReadMostly, 99, 2) == 0);
  CHECK(read(advice, kReadMostly, 199, 2) == 0);
  CHECK(advice.advise(120, 10, kUnsetReadMostly, {}) == Answer::kDone);
  CHECK(read(advice, kReadMostly, 100, 20) == 1);
  CHECK(read(advice, kReadMostly, 100, 21) == 0);
  CHECK(read(advice, kReadMostly, 130, 70) == 1);
}

TEST_CASE("a location is told when all of the range has it") {
  RangeAdvice advice(2);
  CHECK(read(advice, kPreferred, 0, 10) == RangeAdvice::kNoDevice);
  advice.advise(0, 10, kSetPreferred, kSecond);
  advice.advise(10, 10, kSetPreferred, kCpu);
  CHECK(read(advice, kPreferred, 0, 10) == 1);
  CHECK(read(advice, kPreferred, 10, 10) == RangeAdvice::kCpuDevice);
  CHECK(read(advice, kPreferredType, 10, 10) == RangeAdvice::kHost);
  CHECK(read(advice, kPreferred, 5, 10) == RangeAdvice::kNoDevice);
  CHECK(advice.prefetched(0, 20, kFirst) == Answer::kDone);
  CHECK(read(advice, kPrefetched, 5, 10) == 0);
}

TEST_CASE("who accesses a range is listed, and the rest filled up") {
  RangeAdvice advice(2);
  advice.advise(0, 10, kSetAccessedBy, kSecond);
  int users[3];
  CHECK(advice.read(users, sizeof users, kAccessedBy, 0, 10) == Answer::kDone);
  CHECK(users[0] == 1);
  CHECK(users[1] == RangeAdvice::kNoDevice);
}

TEST_CASE("what makes no sense is refused") {
  RangeAdvice advice(2);
  int value;
  CHECK(advice.advise(0, 10, 0, kFirst) == Answer::kInvalidValue);
  CHECK(advice.advise(0, 10, 7, kFirst) == Answer::kInvalidValue);
  CHECK(advice.advise(0, 10, kSetPreferred, {RangeAdvice::kDevice, 2}) == Answer::kInvalidValue);
  CHECK(advice.prefetched(0, 10, {RangeAdvice::kDevice, 2}) == Answer::kInvalidDevice);
  CHECK(advice.prefetched(0, 10, {}) == Answer::kInvalidValue);
  CHECK(advice.read(&value, 3, kReadMostly, 0, 10) == Answer::kInvalidValue);
  CHECK(advice.read(&value, 4, 9, 0, 10) == Answer::kInvalidValue);
}

TEST_CASE("memory that is given back is forgotten") {
  RangeAdvice advice(1);
  advice.advise(0, 30, kSetReadMostly, {});
  advice.forget(10, 10);
  CHECK(read(advice, kReadMostly, 0, 10) == 1);
  CHECK(read(advice, kReadMostly, 10, 10) == 0);
  CHECK(read(advice, kReadMostly, 20, 10) == 1);
}
