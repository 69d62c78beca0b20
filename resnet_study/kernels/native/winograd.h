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
// Both work a block of tiles at a time, so that what the transforms make stays in the cache, and
// keep their sums in registers. Each entry's sum runs over channels (or tiles) in their order, and
// entries are added up in their order: results depend neither on the vector width nor on where
// blocks begin.

#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "layer.h"
#include "microkernels.h"
#include "plan.h"
#include "prefetch.h"

namespace resnet_study {
namespace INSTRUCTIONS {

constexpr int64_t ENTRIES = 16;
constexpr int64_t BLOCK = 32;  // tiles whose transforms are in the cache together

// Products are summed in SUMS registers: of TILES tiles, PANEL_VECTORS vectors of outputs and
// TOGETHER entries where tiles become outputs, of so many inputs and outputs of one entry where
// they become the gradient of the kernel.
constexpr int TILES = 4;
constexpr int PANEL_VECTORS = LANES < CHANNEL_GROUP ? WIDEST : 1;
constexpr int TOGETHER = SUMS / (TILES * PANEL_VECTORS);
constexpr int64_t PANEL = PANEL_VECTORS * LANES;
static_assert(ENTRIES % TOGETHER == 0 && CHANNEL_GROUP % PANEL == 0);

using Lane = Floats<LANES>;

// B', A, G and G' times a vector.
inline std::array<Lane, 4> input_transform(Lane a, Lane b, Lane c, Lane d) {
  return {a - c, b + c, c - b, b - d};
}
inline std::array<Lane, 4> gradient_transform(Lane a, Lane b) { return {a, a + b, a - b, -b}; }
// A' times a vector, one after the other of its four entries.
template <int i>
inline INLINED void add_output(Lane entry, Lane& even, Lane& odd) {
  if constexpr (i == 0) even = entry;
  if constexpr (i == 1) even += entry, odd = entry;
  if constexpr (i == 2) even += entry, odd -= entry;
  if constexpr (i == 3) odd -= entry;
}
inline std::array<Lane, 4> kernel_transform(Lane a, Lane b, Lane c) {
  const Lane outer = a + c;
  return {a, (outer + b) * 0.5f, (outer - b) * 0.5f, c};
}
inline std::array<Lane, 3> kernel_gradient_transform(Lane a, Lane b, Lane c, Lane d) {
  const Lane half = (b + c) * 0.5f;
  return {a + half, (b - c) * 0.5f, half + d};
}

// G g G' of every pair of channels, transposed for the gradient of the input, in the order in which
// `convolve_tiles` reads it: [panel][entries / TOGETHER][channel][TOGETHER][panel's outputs].
// Turning g by 180 degrees exchanges the entries 0 and 3 of an axis.
inline std::vector<float> winograd_kernel(const float* kernel, const Geometry& g,
                                          bool transposed) {
  const int64_t pairs = g.inputs * g.outputs;
  const int64_t channels = transposed ? g.outputs : g.inputs;
  std::vector<float> transformed(ENTRIES * pairs);
  auto place = [&](int64_t entry, int64_t channel, int64_t output) {
    const int64_t group = output / PANEL * (ENTRIES / TOGETHER) + entry / TOGETHER;
    return transformed.data() +
           ((group * channels + channel) * TOGETHER + entry % TOGETHER) * PANEL + output % PANEL;
  };
  auto turned = [](int64_t i) { return i % 3 ? i : 3 - i; };
  for (int64_t input = 0; input < g.inputs; ++input)
    for (int64_t output = 0; output < g.outputs; output += LANES) {
      const float* from = kernel + input * g.outputs + output;
      std::array<Lane, 4> columns[3];
      for (int64_t c = 0; c < 3; ++c)
        columns[c] = kernel_transform(load<LANES>(from + c * pairs),
                                      load<LANES>(from + (3 + c) * pairs),
                                      load<LANES>(from + (6 + c) * pairs));
      for (int64_t r = 0; r < 4; ++r) {
        const auto row = kernel_transform(columns[0][r], columns[1][r], columns[2][r]);
        for (int64_t c = 0; c < 4; ++c)
          if (transposed)
            for (int64_t j = 0; j < LANES; ++j)
              *place(turned(r) * 4 + turned(c), output + j, input) = row[c][j];
          else
            store<LANES>(place(r * 4 + c, input, output), row[c]);
      }
    }
  return transformed;
}

// G' s G of every pair of channels; s: [entry][input][output], gradient: [tap][input][output].
inline void winograd_kernel_gradient(const float* s, const Geometry& g, float* gradient) {
  const int64_t pairs = g.inputs * g.outputs;
  for (int64_t pair = 0; pair < pairs; pair += LANES) {
    const float* from = s + pair;
    std::array<Lane, 3> columns[4];
    for (int64_t c = 0; c < 4; ++c)
      columns[c] = kernel_gradient_transform(
          load<LANES>(from + c * pairs), load<LANES>(from + (4 + c) * pairs),
          load<LANES>(from + (8 + c) * pairs), load<LANES>(from + (12 + c) * pairs));
    for (int64_t r = 0; r < 3; ++r) {
      const auto row = kernel_gradient_transform(columns[0][r], columns[1][r], columns[2][r],
                                                 columns[3][r]);
      for (int64_t c = 0; c < 3; ++c)
        store<LANES>(gradient + (r * 3 + c) * pairs + pair, row[c]);
    }
  }
}

// A panel of the outputs of some tiles, from the transforms of their inputs. x: [entry][tile]
// [channel], entries `step` apart; out: each tile's upper left pixel.
template <int tiles>
void convolve_tiles(const float* x, int64_t step, int64_t channels, const float* kernel,
                    const std::array<float*, tiles>& out, int64_t outputs, int64_t out_row,
                    Prefetch& ahead) {
  constexpr int places = tiles * PANEL_VECTORS;
  Lane line[2 * places], top[2 * places], bottom[2 * places];  // of columns; of columns and rows
  with_constants<ENTRIES / TOGETHER>([&](auto group) INLINED {
    Lane sum[TOGETHER * places];
    with_constants<TOGETHER * places>([&](auto i) INLINED { sum[i] = Lane{}; });
    ahead.step();
    const float* from = x + group * TOGETHER * step;
#pragma GCC unroll 2
    for (int64_t channel = 0; channel < channels; ++channel, kernel += TOGETHER * PANEL) {
      Lane weight[TOGETHER * PANEL_VECTORS];
      with_constants<TOGETHER * PANEL_VECTORS>(
          [&](auto i) INLINED { weight[i] = load<LANES>(kernel + i * LANES); });
      with_constants<TOGETHER * places>([&](auto i) INLINED {
        constexpr int v = i % PANEL_VECTORS, entry = i / PANEL_VECTORS % TOGETHER;
        constexpr int tile = i / PANEL_VECTORS / TOGETHER;
        sum[i] += weight[entry * PANEL_VECTORS + v] *
                  from[entry * step + tile * channels + channel];
      });
    }
    with_constants<TOGETHER * places>([&](auto i) INLINED {
      constexpr int v = i % PANEL_VECTORS, entry = i / PANEL_VECTORS % TOGETHER;
      constexpr int tile = i / PANEL_VECTORS / TOGETHER, at = 2 * (tile * PANEL_VECTORS + v);
      constexpr int row = (group * TOGETHER + entry) / 4, column = (group * TOGETHER + entry) % 4;
      add_output<column>(sum[i], line[at], line[at + 1]);
      if constexpr (column == 3) {
        add_output<row>(line[at], top[at], bottom[at]);
        add_output<row>(line[at + 1], top[at + 1], bottom[at + 1]);
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

// The tiles of some images, which lie one below the other, in blocks of whole rows of tiles, and
// where their transforms lie.
class Winograd {
 public:
  Winograd(const Geometry& g, int64_t images)
      : rows_(images * g.height / 2),
        across_(g.width / 2),
        block_(std::clamp<int64_t>(BLOCK / across_, 1, rows_)),
        most_(std::max(g.inputs, g.outputs)),
        zeros_((g.width + 2) * most_) {}

  // Floats that `convolve` and `accumulate` work in.
  int64_t scratch() const { return zeros_ + 2 * ENTRIES * spaced(most_); }

  // out = the convolution of so many images with what `winograd_kernel` returned. Columns beside
  // the map are read from the margin of `from`.
  void convolve(const Layout& from, const Layout& to, const float* x, const float* kernel,
                float* out, int64_t images, float* scratch, Prefetch ahead) const {
    const int64_t channels = from.channels, outputs = to.channels, step = spaced(channels);
    const int64_t all = images * from.height / 2;
    ahead.begin((all * across_ + TILES - 1) / TILES * (outputs / PANEL) * (ENTRIES / TOGETHER));
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
          convolve_tiles<count>(buffers.x + t * channels, step, channels,
                                kernel + panel * ENTRIES * channels, pixels, outputs, to.row(),
                                ahead);
        };
        int64_t t = 0;
        for (; t + TILES <= tiles; t += TILES) some(std::integral_constant<int, TILES>{}, t);
        for (; t < tiles; ++t) some(std::integral_constant<int, 1>{}, t);
      }
    }
  }

  // sums[entry][input][output] += (A d A') * (B' x B), summed over the tiles of so many images.
  void accumulate(const Layout& x_layout, const Layout& d_layout, const float* x, const float* d,
                  float* sums, int64_t images, float* scratch, Prefetch ahead) const {
    const int64_t inputs = x_layout.channels, outputs = d_layout.channels;
    const int64_t all = images * x_layout.height / 2;
    ahead.begin((all + block_ - 1) / block_ * ENTRIES);
    const Buffers buffers = divide(scratch);
    for (int64_t first = 0; first < all; first += block_) {
      const int64_t rows = std::min(block_, all - first);
      transform_input(x_layout, x, first, rows, buffers.zeros, buffers.x);
      transform_gradient(d_layout, d, first, rows, buffers.gradient);
      for (int64_t entry = 0; entry < ENTRIES; ++entry, ahead.step())
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
    return {scratch, scratch + zeros_, scratch + zeros_ + ENTRIES * spaced(most_)};
  }

  // Floats from one entry to the next: a cache line more than the tiles take, since distances of
  // powers of two would make the entries of a tile share one set of the cache.
  int64_t spaced(int64_t channels) const { return block_ * across_ * channels + 16; }

  void transform_input(const Layout& layout, const float* x, int64_t first, int64_t rows,
                       const float* zeros, float* to) const {
    const int64_t channels = layout.channels, step = spaced(channels);
    for (int64_t row = first; row < first + rows; ++row, to += across_ * channels) {
      const float* lines[4];
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t line = 2 * row - 1 + i;  // outside of its image: zeros
        const bool inside = floor_div(line, layout.height) == 2 * row / layout.height;
        lines[i] = inside ? x + layout.at(line, -1) : zeros;
      }
      for (int64_t c = 0; c < channels; c += LANES) {
        auto column = [&](int64_t at) INLINED {
          return input_transform(load<LANES>(lines[0] + at), load<LANES>(lines[1] + at),
                                 load<LANES>(lines[2] + at), load<LANES>(lines[3] + at));
        };
        float* tile = to + c;
        // Two of a tile's four columns are also the first two of the next one.
        auto left = column(c), middle = column(c + channels);
        for (int64_t t = 0; t < across_; ++t, tile += channels) {
          const auto right = column(c + (2 * t + 2) * channels);
          const auto last = column(c + (2 * t + 3) * channels);
          with_constants<4>([&](auto r) INLINED {
            const auto entries = input_transform(left[r], middle[r], right[r], last[r]);
            with_constants<4>(
                [&](auto i) INLINED { store<LANES>(tile + (r * 4 + i) * step, entries[i]); });
          });
          left = right, middle = last;
        }
      }
    }
  }

  void transform_gradient(const Layout& layout, const float* d, int64_t first, int64_t rows,
                          float* to) const {
    const int64_t channels = layout.channels, step = spaced(channels);
    for (int64_t row = first; row < first + rows; ++row) {
      const float* from = d + layout.at(2 * row, 0);
      for (int64_t t = 0; t < across_; ++t, from += 2 * channels, to += channels)
        for (int64_t c = 0; c < channels; c += LANES) {
          auto column = [&](const float* at) INLINED {
            return gradient_transform(load<LANES>(at), load<LANES>(at + layout.row()));
          };
          const auto left = column(from + c), right = column(from + channels + c);
          with_constants<4>([&](auto r) INLINED {
            const auto entries = gradient_transform(left[r], right[r]);
            with_constants<4>(
                [&](auto i) INLINED { store<LANES>(to + (r * 4 + i) * step + c, entries[i]); });
          });
        }
    }
  }

  const int64_t rows_, across_, block_;  // rows of tiles, tiles in one, rows in a block
  const int64_t most_, zeros_;           // channels; floats in a row of zeros
};

inline std::optional<Winograd> winograd_of(const Geometry& g, int64_t images) {
  return takes_winograd(g) ? std::optional<Winograd>(std::in_place, g, images) : std::nullopt;
}

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
