#include "transport/unix/listener.h"

#include <sys/stat.h>
#include <unistd.h>

namespace avec::unix_domain {

UnixListener::UnixListener(Descriptor fd, Descriptor wake, std::string path)
    : path_(std::move(path)),
      process_(::getpid()),
      accepting_(std::move(fd), std::move(wake), "unix://" + path_) {
  struct stat status {};
  if (::lstat(path_.c_str(), &status) != 0) return;
  device_ = status.st_dev;
  number_ = status.st_ino;
}

UnixListener::~UnixListener() {
  struct stat status {};
  if (::getpid() == process_ && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == number_) {
    ::unlink(path_.c_str());
  }
}

}  // namespace avec::unix_domain
