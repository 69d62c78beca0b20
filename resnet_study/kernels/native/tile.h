// A tile of images on its way through a layer, while it is in the cache: its memory, what shards
// and tiles there are, the input as it enters the convolution, and the moments of what leaves it.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "layer.h"
#include "microkernels.h"
#include "plan.h"
#include "winograd.h"

namespace resnet_study {
namespace INSTRUCTIONS {
namespace {  // the compiler sees each of its callers

constexpr int64_t MOST_SHARDS = 16;
constexpr int64_t PIXELS_PER_SHARD = 128;
constexpr int CHAINS = 4;  // independent sums, so that additions overlap; by position, not width

// Memory of a thread that is kept between calls.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  float* take(int64_t floats) {
    if (floats > size_) {
      std::free(memory_);
      size_ = (floats + 15) / 16 * 16;
      memory_ = static_cast<float*>(std::aligned_alloc(64, 4 * size_));
      if (!memory_) throw std::bad_alloc();
      std::fill_n(memory_, size_, 0.0f);
    }
    return memory_;
  }

 private:
  float* memory_ = nullptr;
  int64_t size_ = 0;
};

struct Shards {
  int64_t count, images, tile;

  explicit Shards(const Geometry& g)
      : images(g.images),
        tile(takes_winograd(g) ? std::max<int64_t>(1, BLOCK / (g.height / 2 * (g.width / 2)))
             : is_narrow(g)    ? TILE
                               : 1) {
    const int64_t pixels = g.images * g.out_height() * g.out_width();
    const int64_t most = std::min(MOST_SHARDS, g.images);
    count = std::clamp<int64_t>(pixels / PIXELS_PER_SHARD, 1, most);
  }

  // body(first image, images) for every tile of a shard.
  template <class Body>
  void for_tiles(int64_t shard, Body body) const {
    const int64_t end = images * (shard + 1) / count;
    for (int64_t i = images * shard / count; i < end; i += tile) body(i, std::min(tile, end - i));
  }
};

template <int lanes>
struct Sum {
  Floats<lanes> chain[CHAINS] = {};
  Floats<lanes> total() const { return (chain[0] + chain[1]) + (chain[2] + chain[3]); }
};

// body(chain, pixel) over the pixels of a row.
template <class Body>
inline void for_pixels(int64_t pixels, Body body) {
  int64_t p = 0;
  for (; p + CHAINS <= pixels; p += CHAINS) {
#pragma GCC unroll 4
    for (int i = 0; i < CHAINS; ++i) body(i, p + i);
  }
  for (; p < pixels; ++p) body(0, p);  // a constant index keeps the chains in registers
}

void clear_margins(const Layout& layout, float* buffer) {
  const int64_t margin = layout.margin * layout.channels;
  if (!margin) return;
  for (int64_t r = 0; r < layout.height; ++r) {
    std::fill_n(buffer + r * layout.row(), margin, 0.0f);
    std::fill_n(buffer + (r + 1) * layout.row() - margin, margin, 0.0f);
  }
}

// The input of a tile as it enters the convolution; returns its zeros.
int64_t activate(const Input& input, const Geometry& g, const Layout& layout, int64_t image,
                 int64_t images, float* buffer, float* x_out) {
  const int64_t channels = g.inputs;
  int64_t zeros = 0;
  for (int64_t i = 0; i < images; ++i, buffer += layout.image()) {
    clear_margins(layout, buffer);
    for (int64_t r = 0; r < g.height; ++r) {
      const int64_t start = (image + i) * g.in_size() + r * g.width * channels;
      const float* z = input.z + start;
      float* x = buffer + layout.at(r, 0);
      for_lanes(channels, [&](auto lanes, int64_t c) {
        constexpr int L = decltype(lanes)::value;
        if (!input.activated()) {
          for (int64_t p = 0; p < g.width; ++p)
            store<L>(x + p * layout.channels + c, load<L>(z + p * channels + c));
          return;
        }
        const auto mean = load<L>(input.mean + c), factor = load<L>(input.factor + c);
        const auto shift = load<L>(input.shift + c);
        const Floats<L> zero = {};
        Ints<L> count = {};
        for (int64_t p = 0; p < g.width; ++p) {
          auto v = (load<L>(z + p * channels + c) - mean) * factor + shift;
          if (input.skip) v += load<L>(input.skip + start + p * channels + c);
          v = v < zero ? zero : v;  // keeps NaN, so that divergence is seen
          count -= v == zero;
          store<L>(x + p * layout.channels + c, v);
          if (x_out) store<L>(x_out + start + p * channels + c, v);
        }
        for (int j = 0; j < L; ++j) zeros += count[j];
      });
    }
  }
  return zeros;
}

// Mean and sum of squared deviations per channel of some positions.
struct Moments {
  std::vector<double> mean, squares;
  int64_t count = 0;

  explicit Moments(int64_t channels = 0) : mean(channels), squares(channels) {}

  void merge(int64_t c, double other_mean, double other_squares, int64_t other_count) {
    const double all = static_cast<double>(count + other_count);
    const double difference = other_mean - mean[c];
    squares[c] += other_squares + difference * difference * (count * (other_count / all));
    mean[c] += difference * (other_count / all);
  }
};

// Two passes while the tile is in the cache: a variance as E[z²] - E[z]² would cancel.
void add_moments(const Geometry& g, const float* out, int64_t images, Moments& moments) {
  const int64_t channels = g.outputs, width = g.out_width(), rows = images * g.out_height();
  const int64_t count = rows * width;
  for_lanes(channels, [&](auto lanes, int64_t c) {
    constexpr int L = decltype(lanes)::value;
    double total[L] = {}, squares[L] = {}, mean[L];
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = out + r * width * channels + c;
      Sum<L> sum;
      for_pixels(width, [&](int i, int64_t p) { sum.chain[i] += load<L>(row + p * channels); });
      const auto row_total = sum.total();
      for (int j = 0; j < L; ++j) total[j] += row_total[j];
    }
    Floats<L> center;
    for (int j = 0; j < L; ++j) {
      mean[j] = total[j] / static_cast<double>(count);
      center[j] = static_cast<float>(mean[j]);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = out + r * width * channels + c;
      Sum<L> sum;
      for_pixels(width, [&](int i, int64_t p) {
        const auto d = load<L>(row + p * channels) - center;
        sum.chain[i] += d * d;
      });
      const auto row_total = sum.total();
      for (int j = 0; j < L; ++j) squares[j] += row_total[j];
    }
    for (int j = 0; j < L; ++j) moments.merge(c + j, mean[j], squares[j], count);
  });
  moments.count += count;
}

}  // namespace
}  // namespace INSTRUCTIONS
}  // namespace resnet_study
