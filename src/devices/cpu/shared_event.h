// What the processes that share an event know of it: how often it was recorded, and which of the
// records have been reached. It lies in a page of shared memory that has a name nobody guesses.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace avec::cpu {

class SharedEvent {
 public:
  /// Null when there is no shared memory.
  static std::shared_ptr<SharedEvent> make();
  static std::shared_ptr<SharedEvent> open(const CUipcEventHandle& handle);
  ~SharedEvent();
  SharedEvent(const SharedEvent&) = delete;
  SharedEvent& operator=(const SharedEvent&) = delete;

  [[nodiscard]] CUipcEventHandle handle() const;
  /// The next record's number.
  std::uint64_t record() { return page_->recorded.fetch_add(1) + 1; }
  void reached(std::uint64_t record);
  /// The last record; 0: none.
  [[nodiscard]] std::uint64_t last() const { return page_->recorded.load(); }
  [[nodiscard]] bool done(std::uint64_t record) const { return page_->done.load() >= record; }

 private:
  struct Page {
    std::atomic<std::uint64_t> recorded, done;
  };
  SharedEvent(std::string name, Page* page, bool owner) : name_(std::move(name)), page_(page), owner_(owner) {}
  static std::shared_ptr<SharedEvent> map(const std::string& name, bool owner);

  const std::string name_;  // of the shared memory
  Page* const page_;
  const bool owner_;  // takes the name away
};

}  // namespace avec::cpu
