// A folder of a test program for its sockets, gone with it.
#pragma once

#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <string>

namespace avec::contract {

inline const std::string& scratch() {
  struct Folder {
    Folder() {
      char name[] = "/tmp/avec-test-XXXXXX";
      path = ::mkdtemp(name) != nullptr ? name : "/nowhere";
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::string path;
  };
  static const Folder folder;
  return folder.path;
}

inline std::string fresh_path() {
  static std::atomic<int> count{0};
  return scratch() + "/" + std::to_string(++count) + ".sock";
}

}  // namespace avec::contract
