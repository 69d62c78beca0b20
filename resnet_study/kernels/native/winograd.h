// Winograd's F(2x2, 3x3): a tile of 2x2 outputs from 16 products instead of 36 (Lavin & Gray
// 2016, arXiv 1509.09308, section 4.1).
//
// Of one input channel and one output channel, with x the 4x4 inputs that a tile of 2x2 outputs
// sees and g the 3x3 kernel:
//
//   out = A' [ (G g G') * (B' x B) ] A,    ' transposes, * multiplies entry by entry
//
//        | 1  0 -1  0 |        |  1    0    0  |
//   B' = | 0  1  1  0 |    G = | 1/2  1/2  1/2 |    A' = | 1  1  1  0 |
//        | 0 -1  1  0 |        | 1/2 -1/2  1/2 |         | 0  1 -1 -1 |
//        | 0  1  0 -1 |        |  0    0    1  |
//
// Sums over channels are taken inside the brackets, so that each of the 16 entries is a product
// of two matrices, (tiles, inputs) and (inputs, outputs). The gradients are those of this formula:
//
//   of g:  G' [ sum over tiles of (A d A') * (B' x B) ] G,   d the gradient of the 2x2 outputs;
//   of x:  a convolution of d with g turned by 180 degrees, its channels exchanged.
//
// Maps of 2x2 are one tile with nothing but padding around it. Along an axis its two outputs are a
// Toeplitz matrix times its two inputs, which takes 3 products, 9 of 16 in all; then
//
//        | 1 -1 |        | 0  1  0 |        |  1  1  0 |
//   B' = | 0  1 |    G = | 0  1  1 |   A' = | -1  0  1 |
//        | 1  0 |        | 1  1  0 |
//
// which keeps what the two inputs have in common out of the sums, as signals after ReLU do have.
//
// All work a block of tiles at a time, so that what the transforms make stays in the cache, and
// keep their sums in registers. Each entry's sum runs over channels (or tiles) in their order, and
// entries are added up in their order: results depend neither on the vector width nor on where
// blocks begin.

#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "layer.h"
#include "microkernels.h"
#include "plan.h"
#include "prefetch.h"
#include "transforms.h"

namespace resnet_study {
namespace INSTRUCTIONS {

constexpr int64_t BLOCK = 32;  // tiles whose transforms are in the cache together

// A panel of the outputs of some tiles, from the transforms of their inputs. x: [entry][tile]
// [channel], entries `step` apart; out: each tile's upper left pixel.
template <class T, int tiles>
void convolve_tiles(const float* x, int64_t step, int64_t channels, const float* kernel,
                    const std::array<float*, tiles>& out, int64_t outputs, int64_t out_row,
                    Prefetch& ahead) {
  constexpr int places = tiles * PANEL_VECTORS, together = TOGETHER<T>;
  Lane line[2 * places], top[2 * places], bottom[2 * places];  // of columns; of columns and rows
  with_constants<ENTRIES<T> / together>([&](auto group) INLINED {
    Lane sum[together * places];
    with_constants<together * places>([&](auto i) INLINED { sum[i] = Lane{}; });
    ahead.step();
    const float* from = x + group * together * step;
#pragma GCC unroll 2
    for (int64_t channel = 0; channel < channels; ++channel, kernel += together * PANEL) {
      Lane weight[together * PANEL_VECTORS];
      with_constants<together * PANEL_VECTORS>(
          [&](auto i) INLINED { weight[i] = load<LANES>(kernel + i * LANES); });
      with_constants<together * places>([&](auto i) INLINED {
        constexpr int v = i % PANEL_VECTORS, entry = i / PANEL_VECTORS % together;
        constexpr int tile = i / PANEL_VECTORS / together;
        sum[i] += weight[entry * PANEL_VECTORS + v] *
                  from[entry * step + tile * channels + channel];
      });
    }
    with_constants<together * places>([&](auto i) INLINED {
      constexpr int v = i % PANEL_VECTORS, entry = i / PANEL_VECTORS % together;
      constexpr int tile = i / PANEL_VECTORS / together, at = 2 * (tile * PANEL_VECTORS + v);
      constexpr int row = (group * together + entry) / T::SIDE;
      constexpr int column = (group * together + entry) % T::SIDE;
      T::template add_output<column>(sum[i], line[at], line[at + 1]);
      if constexpr (column == T::SIDE - 1) {
        T::template add_output<row>(line[at], top[at], bottom[at]);
        T::template add_output<row>(line[at + 1], top[at + 1], bottom[at + 1]);
      }
    });
  });
  with_constants<2 * places>([&](auto i) INLINED {
    constexpr int column = i % 2, v = i / 2 % PANEL_VECTORS, tile = i / 2 / PANEL_VECTORS;
    float* to = out[tile] + column * outputs + v * LANES;
    store<LANES>(to, top[i]);
    store<LANES>(to + out_row, bottom[i]);
  });
}

// sums[input][output] += the products of x and d, both [tile][channel], over so many tiles.
inline void accumulate_tiles(const float* x, const float* d, int64_t tiles, int64_t inputs,
                             int64_t outputs, float* sums) {
  constexpr int rows = SUMS / PANEL_VECTORS;
  for (int64_t panel = 0; panel < outputs; panel += PANEL)
    for (int64_t input = 0; input < inputs; input += rows) {
      float* to = sums + input * outputs + panel;
      const auto place = [&](int i) INLINED {
        return to + i / PANEL_VECTORS * outputs + i % PANEL_VECTORS * LANES;
      };
      Lane sum[SUMS];
      with_constants<SUMS>([&](auto i) INLINED { sum[i] = load<LANES>(place(i)); });
      const float* left = x + input;
      const float* right = d + panel;
#pragma GCC unroll 2
      for (int64_t tile = 0; tile < tiles; ++tile, left += inputs, right += outputs) {
        Lane vector[PANEL_VECTORS];
        with_constants<PANEL_VECTORS>(
            [&](auto v) INLINED { vector[v] = load<LANES>(right + v * LANES); });
        with_constants<SUMS>([&](auto i) INLINED {
          sum[i] += vector[i % PANEL_VECTORS] * left[i / PANEL_VECTORS];
        });
      }
      with_constants<SUMS>([&](auto i) INLINED { store<LANES>(place(i), sum[i]); });
    }
}

// How a layer of some geometry is computed by fewer products.
class Winograd {
 public:
  virtual ~Winograd() = default;
  virtual int64_t scratch() const = 0;  // floats that `convolve` and `accumulate` work in
  virtual int64_t sums() const = 0;     // floats that `accumulate` adds to
  // G g G'; transposed for the gradient of the input.
  virtual std::vector<float> kernel(const float* kernel, bool transposed) const = 0;
  // out = the convolution of so many images with such a kernel. Columns beside the map are read
  // from the margin of `from`.
  virtual void convolve(const Layout& from, const Layout& to, const float* x, const float* kernel,
                        float* out, int64_t images, float* scratch, Prefetch ahead) const = 0;
  // sums[entry][input][output] += (A d A') * (B' x B), summed over the tiles of so many images.
  virtual void accumulate(const Layout& x_layout, const Layout& d_layout, const float* x,
                          const float* d, float* sums, int64_t images, float* scratch,
                          Prefetch ahead) const = 0;
  // G' sums G.
  virtual void kernel_gradient(const float* sums, float* gradient) const = 0;
};

// The tiles of some images, which lie one below the other, in blocks of whole rows of tiles, and
// where their transforms lie.
template <class T>
class Tiled final : public Winograd {
 public:
  Tiled(const Geometry& g, int64_t images)
      : g_(g),
        rows_(images * g.height / 2),
        across_(g.width / 2),
        block_(std::clamp<int64_t>(BLOCK / across_, 1, rows_)),
        most_(std::max(g.inputs, g.outputs)),
        zeros_((g.width + 2) * most_) {}

  int64_t scratch() const override { return zeros_ + 2 * ENTRIES<T> * spaced(most_); }
  int64_t sums() const override { return ENTRIES<T> * g_.inputs * g_.outputs; }

  std::vector<float> kernel(const float* kernel, bool transposed) const override {
    if (transposed) return winograd_kernel<T>(turned(kernel, g_).data(), g_.outputs, g_.inputs);
    return winograd_kernel<T>(kernel, g_.inputs, g_.outputs);
  }

  void kernel_gradient(const float* sums, float* gradient) const override {
    winograd_kernel_gradient<T>(sums, g_, gradient);
  }

  void convolve(const Layout& from, const Layout& to, const float* x, const float* kernel,
                float* out, int64_t images, float* scratch, Prefetch ahead) const override {
    const int64_t channels = from.channels, outputs = to.channels, step = spaced(channels);
    const int64_t all = images * from.height / 2;
    ahead.begin((all * across_ + TILES - 1) / TILES * (outputs / PANEL) *
                (ENTRIES<T> / TOGETHER<T>));
    const Buffers buffers = divide(scratch);
    for (int64_t first = 0; first < all; first += block_) {
      const int64_t rows = std::min(block_, all - first), tiles = rows * across_;
      transform_input(from, x, first, rows, buffers.zeros, buffers.x);
      for (int64_t panel = 0; panel < outputs; panel += PANEL) {
        int64_t row = first, column = 0;
        auto next = [&] {
          float* const pixel = out + to.at(2 * row, 2 * column) + panel;
          if (++column == across_) column = 0, ++row;
          return pixel;
        };
        auto some = [&](auto count, int64_t t) INLINED {
          std::array<float*, count> pixels;
          for (float*& pixel : pixels) pixel = next();
          convolve_tiles<T, count>(buffers.x + t * channels, step, channels,
                                   kernel + panel * ENTRIES<T> * channels, pixels, outputs,
                                   to.row(), ahead);
        };
        int64_t t = 0;
        for (; t + TILES <= tiles; t += TILES) some(std::integral_constant<int, TILES>{}, t);
        for (; t < tiles; ++t) some(std::integral_constant<int, 1>{}, t);
      }
    }
  }

  void accumulate(const Layout& x_layout, const Layout& d_layout, const float* x, const float* d,
                  float* sums, int64_t images, float* scratch, Prefetch ahead) const override {
    const int64_t inputs = x_layout.channels, outputs = d_layout.channels;
    const int64_t all = images * x_layout.height / 2;
    ahead.begin((all + block_ - 1) / block_ * ENTRIES<T>);
    const Buffers buffers = divide(scratch);
    for (int64_t first = 0; first < all; first += block_) {
      const int64_t rows = std::min(block_, all - first);
      transform_input(x_layout, x, first, rows, buffers.zeros, buffers.x);
      transform_gradient(d_layout, d, first, rows, buffers.gradient);
      for (int64_t entry = 0; entry < ENTRIES<T>; ++entry, ahead.step())
        accumulate_tiles(buffers.x + entry * spaced(inputs),
                         buffers.gradient + entry * spaced(outputs), rows * across_, inputs,
                         outputs, sums + entry * inputs * outputs);
    }
  }

 private:
  struct Buffers {
    const float* zeros;  // a row of the map
    float* x;            // [entry][tile][channel], entries `spaced` apart
    float* gradient;     // the same of gradients
  };

  Buffers divide(float* scratch) const {
    std::fill_n(scratch, zeros_, 0.0f);
    return {scratch, scratch + zeros_, scratch + zeros_ + ENTRIES<T> * spaced(most_)};
  }

  // Floats from one entry to the next: a cache line more than the tiles take, since distances of
  // powers of two would make the entries of a tile share one set of the cache.
  int64_t spaced(int64_t channels) const { return block_ * across_ * channels + 16; }

  void transform_input(const Layout& layout, const float* x, int64_t first, int64_t rows,
                       const float* zeros, float* to) const {
    const int64_t channels = layout.channels, step = spaced(channels);
    constexpr int side = T::SIDE, reach = T::REACH, margin = reach / 2 - 1;
    for (int64_t row = first; row < first + rows; ++row, to += across_ * channels) {
      std::array<const float*, reach> lines;
      for (int64_t i = 0; i < reach; ++i) {
        const int64_t line = 2 * row - margin + i;  // outside of its image: zeros
        const bool inside = floor_div(line, layout.height) == 2 * row / layout.height;
        lines[i] = inside ? x + layout.at(line, -margin) : zeros;
      }
      for (int64_t c = 0; c < channels; c += LANES) {
        auto column = [&](int64_t number) INLINED {
          std::array<Lane, reach> values;
          with_constants<reach>(
              [&](auto i) INLINED { values[i] = load<LANES>(lines[i] + number * channels + c); });
          return T::of_input(values);
        };
        float* tile = to + c;
        std::array<std::array<Lane, side>, reach> columns;
        with_constants<reach - 2>([&](auto i) INLINED { columns[i] = column(i); });
        for (int64_t t = 0; t < across_; ++t, tile += channels) {
          with_constants<2>([&](auto i) INLINED {
            columns[reach - 2 + i] = column(2 * t + reach - 2 + i);
          });
          with_constants<side>([&](auto r) INLINED {
            std::array<Lane, reach> line;
            with_constants<reach>([&](auto i) INLINED { line[i] = columns[i][r]; });
            const auto entries = T::of_input(line);
            with_constants<side>(
                [&](auto i) INLINED { store<LANES>(tile + (r * side + i) * step, entries[i]); });
          });
          // The last two columns of a tile of four are also the first two of the next one.
          with_constants<reach - 2>([&](auto i) INLINED { columns[i] = columns[i + 2]; });
        }
      }
    }
  }

  void transform_gradient(const Layout& layout, const float* d, int64_t first, int64_t rows,
                          float* to) const {
    const int64_t channels = layout.channels, step = spaced(channels);
    constexpr int side = T::SIDE;
    for (int64_t row = first; row < first + rows; ++row) {
      const float* from = d + layout.at(2 * row, 0);
      for (int64_t t = 0; t < across_; ++t, from += 2 * channels, to += channels)
        for (int64_t c = 0; c < channels; c += LANES) {
          auto column = [&](const float* at) INLINED {
            return T::of_gradient(load<LANES>(at), load<LANES>(at + layout.row()));
          };
          const auto left = column(from + c), right = column(from + channels + c);
          with_constants<side>([&](auto r) INLINED {
            const auto entries = T::of_gradient(left[r], right[r]);
            with_constants<side>(
                [&](auto i) INLINED { store<LANES>(to + (r * side + i) * step + c, entries[i]); });
          });
        }
    }
  }

  const Geometry g_;
  const int64_t rows_, across_, block_;  // rows of tiles, tiles in one, rows in a block
  const int64_t most_, zeros_;           // channels; floats in a row of zeros
};

inline std::unique_ptr<Winograd> winograd_of(const Geometry& g, int64_t images) {
  if (!takes_winograd(g)) return nullptr;
  if (g.height == 2 && g.width == 2) return std::make_unique<Tiled<Whole>>(g, images);
  return std::make_unique<Tiled<Overlapping>>(g, images);
}

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
