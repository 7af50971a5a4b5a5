// Canny edge detection on a photograph: PNG in, PNG out.
//
//   edges input.png output.png
//
// Gaussian blur, Sobel gradient, thinning along the gradient and hysteresis. All arithmetic on
// pixels is in integers, so the picture is the same on every device.
#include <png.h>

#include <cstring>
#include <string>
#include <vector>

#include "check.h"

namespace {

struct Picture {
  int width = 0, height = 0;
  std::vector<unsigned char> grey;
};

Picture read_png(const char* path) {
  png_image image;
  std::memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_file(&image, path)) {
    std::fprintf(stderr, "edges: cannot read %s: %s\n", path, image.message);
    std::exit(2);
  }
  image.format = PNG_FORMAT_GRAY;
  Picture picture{static_cast<int>(image.width), static_cast<int>(image.height), {}};
  picture.grey.resize(PNG_IMAGE_SIZE(image));
  const png_color white{255, 255, 255};
  if (!png_image_finish_read(&image, &white, picture.grey.data(), 0, nullptr)) {
    std::fprintf(stderr, "edges: cannot decode %s: %s\n", path, image.message);
    std::exit(2);
  }
  return picture;
}

void write_png(const char* path, const Picture& picture) {
  png_image image;
  std::memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = PNG_FORMAT_GRAY;
  if (!png_image_write_to_file(&image, path, 0, picture.grey.data(), 0, nullptr)) {
    std::fprintf(stderr, "edges: cannot write %s: %s\n", path, image.message);
    std::exit(2);
  }
}

constexpr int kTile = 16;
constexpr int kRadius = 2;
// 5 x 5 Gaussian, sigma 1.4; the sum is 159.
__constant__ int kGauss[25] = {2, 4, 5, 4, 2, 4, 9, 12, 9, 4, 5, 12, 15, 12, 5, 4, 9, 12, 9, 4, 2, 4, 5, 4, 2};

__device__ int clamp(int value, int low, int high) { return min(max(value, low), high); }

__global__ void blur(const unsigned char* in, unsigned char* out, int width, int height) {
  __shared__ int tile[kTile + 2 * kRadius][kTile + 2 * kRadius];
  const int left = blockIdx.x * kTile - kRadius, top = blockIdx.y * kTile - kRadius;
  for (int y = threadIdx.y; y < kTile + 2 * kRadius; y += kTile)
    for (int x = threadIdx.x; x < kTile + 2 * kRadius; x += kTile)
      tile[y][x] = in[clamp(top + y, 0, height - 1) * width + clamp(left + x, 0, width - 1)];
  __syncthreads();
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile + threadIdx.y;
  if (x >= width || y >= height) return;
  int sum = 0;
#pragma unroll
  for (int j = 0; j < 5; ++j)
#pragma unroll
    for (int i = 0; i < 5; ++i) sum += kGauss[j * 5 + i] * tile[threadIdx.y + j][threadIdx.x + i];
  out[y * width + x] = static_cast<unsigned char>((sum + 79) / 159);
}

// Squared length of the gradient and its direction in steps of 45 degrees.
__global__ void sobel(const unsigned char* in, int* squared, unsigned char* direction, int width, int height) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  auto at = [&](int dx, int dy) {
    return static_cast<int>(in[clamp(y + dy, 0, height - 1) * width + clamp(x + dx, 0, width - 1)]);
  };
  const int gx = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1);
  const int gy = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1);
  squared[y * width + x] = gx * gx + gy * gy;
  // tan 22.5 degrees is 0.4142: compare in integers.
  const int ax = abs(gx), ay = abs(gy);
  unsigned char d;
  if (1000 * ay <= 414 * ax) d = 0;
  else if (414 * ay >= 1000 * ax) d = 2;
  else d = (gx > 0) == (gy > 0) ? 1 : 3;
  direction[y * width + x] = d;
}

enum : unsigned char { kNothing = 0, kWeak = 1, kEdge = 2 };

__global__ void thin(const int* squared, const unsigned char* direction, unsigned char* mark, int width,
                     int height, int low, int high) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  const int here = squared[y * width + x];
  auto at = [&](int dx, int dy) {
    const int i = x + dx, j = y + dy;
    return i < 0 || j < 0 || i >= width || j >= height ? 0 : squared[j * width + i];
  };
  int before, after;
  switch (direction[y * width + x]) {
    case 0: before = at(-1, 0); after = at(1, 0); break;
    case 1: before = at(-1, -1); after = at(1, 1); break;
    case 2: before = at(0, -1); after = at(0, 1); break;
    default: before = at(1, -1); after = at(-1, 1); break;
  }
  unsigned char m = kNothing;
  if (here > before && here >= after) m = here >= high * high ? kEdge : here >= low * low ? kWeak : kNothing;
  mark[y * width + x] = m;
}

// One step of hysteresis: a weak pixel beside an edge becomes an edge.
__global__ void grow(unsigned char* mark, int width, int height, int* changed) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height || mark[y * width + x] != kWeak) return;
  for (int j = max(y - 1, 0); j <= min(y + 1, height - 1); ++j)
    for (int i = max(x - 1, 0); i <= min(x + 1, width - 1); ++i)
      if (mark[j * width + i] == kEdge) {
        mark[y * width + x] = kEdge;
        atomicAdd(changed, 1);
        return;
      }
}

__global__ void paint(const unsigned char* mark, unsigned char* out, int pixels) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < pixels) out[i] = mark[i] == kEdge ? 255 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: edges input.png output.png\n");
    return 2;
  }
  Picture picture = read_png(argv[1]);
  const int width = picture.width, height = picture.height, pixels = width * height;

  unsigned char *grey, *soft, *direction, *mark;
  int *squared, *changed;
  CUDA_CHECK(cudaMalloc(&grey, pixels));
  CUDA_CHECK(cudaMalloc(&soft, pixels));
  CUDA_CHECK(cudaMalloc(&direction, pixels));
  CUDA_CHECK(cudaMalloc(&mark, pixels));
  CUDA_CHECK(cudaMalloc(&squared, sizeof(int) * pixels));
  CUDA_CHECK(cudaMalloc(&changed, sizeof(int)));
  CUDA_CHECK(cudaMemcpy(grey, picture.grey.data(), pixels, cudaMemcpyHostToDevice));

  const dim3 block(kTile, kTile), grid((width + kTile - 1) / kTile, (height + kTile - 1) / kTile);
  blur<<<grid, block>>>(grey, soft, width, height);
  sobel<<<grid, block>>>(soft, squared, direction, width, height);
  thin<<<grid, block>>>(squared, direction, mark, width, height, 60, 140);
  // The set of pixels that hysteresis reaches does not depend on the order of its steps.
  for (int left = 1; left != 0;) {
    CUDA_CHECK(cudaMemset(changed, 0, sizeof(int)));
    for (int step = 0; step < 8; ++step) grow<<<grid, block>>>(mark, width, height, changed);
    CUDA_CHECK(cudaMemcpy(&left, changed, sizeof(int), cudaMemcpyDeviceToHost));
  }
  paint<<<(pixels + 255) / 256, 256>>>(mark, grey, pixels);
  CUDA_CHECK(cudaGetLastError());
  CUDA_CHECK(cudaMemcpy(picture.grey.data(), grey, pixels, cudaMemcpyDeviceToHost));
  for (void* memory : {static_cast<void*>(grey), static_cast<void*>(soft), static_cast<void*>(direction),
                       static_cast<void*>(mark), static_cast<void*>(squared), static_cast<void*>(changed)})
    CUDA_CHECK(cudaFree(memory));

  int edges = 0;
  for (unsigned char value : picture.grey) edges += value == 255;
  write_png(argv[2], picture);
  std::printf("%d x %d pixels, %d on an edge\n", width, height, edges);
  return 0;
}
