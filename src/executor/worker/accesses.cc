#include "executor/worker/accesses.h"

#include <array>
#include <cstring>
#include <utility>

namespace avec::worker {

std::uint64_t Accesses::token_for(Done done) {
  ++under_way_;
  if (spare_.empty()) {
    actions_.push_back(std::move(done));
    return actions_.size() - 1;
  }
  const std::uint64_t token = spare_.back();
  spare_.pop_back();
  actions_[token] = std::move(done);
  return token;
}

Accesses::Done Accesses::take(std::uint64_t token) {
  if (token >= actions_.size() || !actions_[token]) return nullptr;
  --under_way_;
  spare_.push_back(token);
  return std::exchange(actions_[token], nullptr);
}

bool Accesses::begun(const IoResult& result, std::uint64_t token) {
  if (result.error) {
    take(token)(result.error);
    return true;
  }
  if (result.bytes == 0) take(token);
  return result.bytes != 0;
}

bool Accesses::read(const PeerMemory& from, std::uint64_t at, MutableBytes into, Done done) {
  if (from.region != nullptr) {
    std::memcpy(into.data(), from.region->memory.data() + from.offset + at, into.size());
    copied_bytes_ += into.size();
    done({});
    return true;
  }
  const std::uint64_t token = token_for(std::move(done));
  return begun(one_sided_->read(from.key, from.offset + at, into, token), token);
}

bool Accesses::write(const PeerMemory& to, std::uint64_t at, ConstBytes from, Done done) {
  if (to.region != nullptr) {
    std::memcpy(to.region->memory.data() + to.offset + at, from.data(), from.size());
    copied_bytes_ += from.size();
    done({});
    return true;
  }
  const std::uint64_t token = token_for(std::move(done));
  return begun(one_sided_->write(to.key, to.offset + at, from, token), token);
}

bool Accesses::poll() {
  if (under_way_ == 0) return false;
  std::array<OneSidedCompletion, 16> ended;
  bool progress = false;
  for (std::size_t count = ended.size(); count == ended.size();) {
    count = one_sided_->completed(ended);
    for (std::size_t i = 0; i < count; ++i) {
      if (const Done done = take(ended[i].token)) done(ended[i].error);
      progress = true;
    }
  }
  return progress;
}

void Accesses::abandon() {
  under_way_ = 0;
  // What they hold may ask for chunks to be taken back, but begins nothing.
  for (Done& action : actions_) action = nullptr;
  actions_.clear();
  spare_.clear();
  one_sided_ = nullptr;
}

}  // namespace avec::worker
