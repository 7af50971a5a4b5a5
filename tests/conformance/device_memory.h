// What the device_* programs share: a few values on the device.
#pragma once

#include "case.h"

/// n values on the device, zero or as given; get() brings them back after what was launched.
template <class T>
class Values {
 public:
  explicit Values(std::size_t n, T value = T{}) : host_(n, value) { upload(); }
  explicit Values(std::vector<T> values) : host_(std::move(values)) { upload(); }
  ~Values() { cudaFree(device_); }
  T* device() { return device_; }
  const std::vector<T>& get() {
    NEED(cudaMemcpy(host_.data(), device_, host_.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return host_;
  }

 private:
  void upload() {
    NEED(cudaMalloc(&device_, host_.size() * sizeof(T)));
    NEED(cudaMemcpy(device_, host_.data(), host_.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> host_;
  T* device_ = nullptr;
};

inline void print(const char* name, const std::vector<int>& values) {
  std::printf("%s:", name);
  for (const int value : values) std::printf(" %d", value);
  std::printf("\n");
}
