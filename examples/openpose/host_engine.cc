// The network on the host alone: the same layers; a convolution is im2col and OpenBLAS's product,
// done in strips of the picture so small that a strip's matrix stays in the cache, each by one thread.
#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "engine.h"

const char* const kEngineName = "host";

namespace {

// Runs a job's pieces on all threads; the caller's is one of them.
class Team {
 public:
  explicit Team(int threads) {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
  }
  ~Team() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    begins_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// job(piece, thread) for every piece; returns when all are done.
  void run(int pieces, const std::function<void(int, int)>& job) {
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      pieces_ = pieces;
      next_ = 0;
      busy_ = int(threads_.size());
      ++round_;
    }
    begins_.notify_all();
    take(0);
    std::unique_lock lock(mutex_);
    ends_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void take(int thread) {
    for (int piece; (piece = next_.fetch_add(1)) < pieces_;) (*job_)(piece, thread);
  }
  void work(int thread) {
    for (int seen = 0;;) {
      {
        std::unique_lock lock(mutex_);
        begins_.wait(lock, [&] { return ended_ || round_ != seen; });
        if (ended_) return;
        seen = round_;
      }
      take(thread);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) ends_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;  // guards what follows but next_
  std::condition_variable begins_, ends_;
  const std::function<void(int, int)>* job_ = nullptr;
  int pieces_ = 0, busy_ = 0, round_ = 0;
  bool ended_ = false;
  std::atomic<int> next_{0};
};

// A thread's matrix of a strip: 1 MiB, about a core's second-level cache.
constexpr std::size_t kStripFloats = 256 << 10;
constexpr std::size_t kPiece = 64 << 10;  // floats of an activation done at once

class HostEngine final : public Engine {
 public:
  HostEngine(const Network& network, const Options& options)
      : network_(network),
        parameters_(host_parameters(network, options.seed)),
        team_(options.threads),
        threads_(options.threads),
        strips_(std::size_t(options.threads)) {
    openblas_set_num_threads(1);  // the team's threads take a strip each
    for (const Blob& blob : network.blobs) blobs_.emplace_back(blob.shape.size());
  }

  float* input() override { return blobs_[std::size_t(network_.input)].data(); }
  const float* output() const override { return blobs_[std::size_t(network_.output)].data(); }

  double forward() override {
    for (const Layer& layer : network_.layers) run(layer);
    return 0;
  }

 private:
  float* blob(int index) { return blobs_[std::size_t(index)].data(); }

  void run(const Layer& layer) {
    float* top = blob(layer.top);
    const Shape& out = network_.out(layer);
    switch (layer.kind) {
      case Kind::kConvolution:
        return convolve(layer);
      case Kind::kRelu:
        return in_pieces(out.size(), [=](std::size_t i) { top[i] = std::max(top[i], 0.0f); });
      case Kind::kPrelu:
        return team_.run(out.channels, [&](int channel, int) {
          const float slope = parameters_[layer.parameters + std::size_t(channel)];
          float* values = top + std::size_t(channel) * out.pixels();
          for (std::size_t i = 0; i < out.pixels(); ++i) values[i] *= values[i] < 0 ? slope : 1.0f;
        });
      case Kind::kPool:
        return team_.run(out.channels, [&](int channel, int) { pool(layer, channel); });
      case Kind::kConcat:
        for (const int each : layer.bottoms) {
          const std::vector<float>& values = blobs_[std::size_t(each)];
          std::memcpy(top, values.data(), values.size() * sizeof(float));
          top += values.size();
        }
    }
  }

  template <class Function>
  void in_pieces(std::size_t count, Function function) {
    team_.run(int((count + kPiece - 1) / kPiece), [=](int piece, int) {
      const std::size_t end = std::min(count, (std::size_t(piece) + 1) * kPiece);
      for (std::size_t i = std::size_t(piece) * kPiece; i < end; ++i) function(i);
    });
  }

  void pool(const Layer& layer, int channel) {
    const Shape &in = network_.in(layer), &out = network_.out(layer);
    const float* from = blob(layer.bottoms[0]) + std::size_t(channel) * in.pixels();
    float* to = blob(layer.top) + std::size_t(channel) * out.pixels();
    for (int y = 0; y < out.height; ++y) {
      const float *above = from + 2 * y * in.width,
                  *below = from + std::min(2 * y + 1, in.height - 1) * in.width;
      for (int x = 0; x < out.width; ++x) {
        const int left = 2 * x, right = std::min(left + 1, in.width - 1);
        *to++ = std::max(std::max(above[left], above[right]), std::max(below[left], below[right]));
      }
    }
  }

  void convolve(const Layer& layer) {
    const Shape &in = network_.in(layer), &out = network_.out(layer);
    const std::size_t depth = std::size_t(in.channels * layer.kernel * layer.kernel);
    const int fitting = int(kStripFloats / (depth * std::size_t(in.width)));
    const int rows = std::clamp(fitting, 1, (in.height + threads_ - 1) / threads_);
    const float *weights = parameters_.data() + layer.parameters, *biases = weights + layer.weights;
    const float* bottom = blob(layer.bottoms[0]);
    float* top = blob(layer.top);
    team_.run((in.height + rows - 1) / rows, [&](int strip, int thread) {
      const int first = strip * rows, last = std::min(first + rows, in.height),
                pixels = (last - first) * in.width;
      const float* matrix = bottom + first * in.width;
      int stride = int(in.pixels());
      if (layer.kernel > 1) {
        std::vector<float>& columns = strips_[std::size_t(thread)];
        columns.resize(std::max(columns.size(), depth * std::size_t(pixels)));
        im2col(bottom, in, layer.kernel, first, last, columns.data());
        matrix = columns.data();
        stride = pixels;
      }
      float* result = top + first * in.width;
      for (int channel = 0; channel < out.channels; ++channel) {
        float* row = result + std::size_t(channel) * out.pixels();
        std::fill(row, row + pixels, biases[channel]);
      }
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, out.channels, pixels, int(depth), 1.0f, weights,
                  int(depth), matrix, stride, 1.0f, result, int(out.pixels()));
    });
  }

  // Of the rows from first to last.
  static void im2col(const float* in, const Shape& shape, int kernel, int first, int last, float* columns) {
    const int border = kernel / 2, width = shape.width;
    for (int channel = 0; channel < shape.channels; ++channel)
      for (int v = -border; v <= border; ++v)
        for (int u = -border; u <= border; ++u)
          for (int y = first; y < last; ++y, columns += width) {
            const int row = y + v, begin = std::max(0, -u), end = std::min(width, width - u);
            if (row < 0 || row >= shape.height || begin >= end) {
              std::fill(columns, columns + width, 0.0f);
              continue;
            }
            const float* source = in + std::size_t(channel) * shape.pixels() + row * width + u;
            std::fill(columns, columns + begin, 0.0f);
            std::copy(source + begin, source + end, columns + begin);
            std::fill(columns + end, columns + width, 0.0f);
          }
  }

  const Network& network_;
  const std::vector<float> parameters_;
  Team team_;
  const int threads_;
  std::vector<std::vector<float>> blobs_, strips_;  // strips_: one for each thread
};

}  // namespace

std::unique_ptr<Engine> make_engine(const Network& network, const Options& options) {
  return std::make_unique<HostEngine>(network, options);
}
