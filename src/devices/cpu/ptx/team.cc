#include "devices/cpu/ptx/team.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace avec::cpu::ptx {
namespace {

struct Offer {
  const std::function<void(unsigned)>& work;
  unsigned next, end;  ///< numbers that nobody has taken
  unsigned running = 0;
};

class Team {
 public:
  void run(unsigned workers, const std::function<void(unsigned)>& work);

 private:
  void serve();

  const unsigned most_ = std::max(2u, std::thread::hardware_concurrency()) - 1;
  std::mutex mutex_;
  std::condition_variable offered_, done_;
  // Guarded by mutex_.
  std::deque<Offer*> offers_;
  unsigned threads_ = 0, idle_ = 0;
};

void Team::run(unsigned workers, const std::function<void(unsigned)>& work) {
  Offer offer{work, 1, workers};
  {
    const std::lock_guard lock(mutex_);
    offers_.push_back(&offer);
    for (unsigned i = 1; i < workers; ++i) {
      if (i <= idle_) {
        offered_.notify_one();
      } else if (threads_ < most_) {
        ++threads_;
        std::thread([this] { serve(); }).detach();
      }
    }
  }
  work(0);
  std::unique_lock lock(mutex_);
  std::erase(offers_, &offer);
  done_.wait(lock, [&] { return offer.running == 0; });
}

void Team::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    offered_.wait(lock, [this] { return !offers_.empty(); });
    --idle_;
    Offer& offer = *offers_.front();
    const unsigned number = offer.next++;
    if (offer.next == offer.end) offers_.pop_front();
    ++offer.running;
    lock.unlock();
    offer.work(number);
    lock.lock();
    if (--offer.running == 0) done_.notify_all();
  }
}

}  // namespace

void run_with_team(unsigned workers, const std::function<void(unsigned)>& work) {
  if (workers <= 1) return work(0);
  // Never destroyed: its threads wait in it to the end of the process.
  static Team& team = *new Team;
  team.run(workers, work);
}

}  // namespace avec::cpu::ptx
