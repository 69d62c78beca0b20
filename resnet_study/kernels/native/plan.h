// Where the products of a convolution lie: geometry as lists of offsets, so that borders,
// strides and both gradients are one loop over a list.
//
// A buffer holds a tile of images. On wide maps a tile is one image and a strip of outputs runs
// along a row; the rows have a margin of zeros left and right, kernel rows outside the map are
// left out. On narrow maps a tile is several images and a strip runs across them, at one pixel,
// so that no product with padding is computed at all.

#pragma once

#include <vector>

#include "layer.h"
#include "microkernels.h"
#include "prefetch.h"

namespace resnet_study {
namespace INSTRUCTIONS {

constexpr int64_t NARROW = 8;         // columns of output, below which strips run across images
constexpr int64_t TILE = 8;           // images in a tile of narrow maps
constexpr int64_t ROWS = 4;           // rows of a weight gradient while they are in the L1 cache
constexpr int64_t CHANNEL_BLOCK = 32; // input channels of a panel of weights in the L1 cache

inline int64_t rounded(int64_t channels) { return (channels + LANES - 1) / LANES * LANES; }

// Vectors in a panel of this many channels (a multiple of LANES).
inline int64_t panel_vectors(int64_t channels) {
  return channels % (WIDEST * LANES) == 0 ? WIDEST : 1;
}

// n things in the fewest parts of at most `longest`, as equal as can be.
template <class Body>
inline void for_parts(int64_t n, int64_t longest, Body body) {
  const int64_t parts = (n + longest - 1) / longest;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = n * i / parts;
    body(begin, n * (i + 1) / parts - begin);
  }
}

// A map of a tile of images in a buffer, with channels filled up to whole vectors.
struct Layout {
  int64_t height, width, channels, margin;

  int64_t row() const { return (width + 2 * margin) * channels; }
  int64_t image() const { return height * row(); }
  int64_t at(int64_t r, int64_t c) const { return r * row() + (c + margin) * channels; }
};

// Output positions that share a list of kernel taps.
struct Site {
  int64_t out, positions;  // positions 0: one per image of the tile
  int64_t first, count;    // of its taps
};

struct Place {
  int64_t offset, tap;
};

struct Convolution {
  std::vector<Site> sites;
  std::vector<Place> places;
  int64_t step, out_step;
};

// Segments of one tap within a block of rows.
struct TapSegments {
  int64_t tap, positions;
  std::vector<Segment> segments;
};

struct WeightGradient {
  std::vector<TapSegments> blocks;
  int64_t x_step, d_step;
};

constexpr int64_t CHANNEL_GROUP = 16;  // the widest panel of any instruction set

// The one place that decides which layers are computed by Winograd's algorithm (winograd.h); all
// others are computed directly. It goes by the shape alone, and so is the same for every
// instruction set.
inline bool takes_winograd(const Geometry& g) {
  return !g.direct && g.side == 3 && g.stride == 1 && g.height % 2 == 0 && g.width % 2 == 0 &&
         (g.width > 2 || g.height == 2) && g.inputs % CHANNEL_GROUP == 0 &&
         g.outputs % CHANNEL_GROUP == 0;
}

// Whether strips of outputs run across images.
inline bool is_narrow(const Geometry& g) { return g.out_width() < NARROW && !takes_winograd(g); }

inline Layout input_layout(const Geometry& g) {
  return {g.height, g.width, rounded(g.inputs), is_narrow(g) ? 0 : g.padding()};
}

inline Layout output_layout(const Geometry& g, int64_t margin) {
  return {g.out_height(), g.out_width(), rounded(g.outputs), margin};
}

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// `from` is the buffer that is read; transposed: of the gradient of the output, whose products
// with the kernel are the gradient of the input.
inline Convolution plan_convolution(const Geometry& g, const Layout& from, const Layout& to,
                                    bool transposed) {
  Convolution plan;
  const bool narrow = is_narrow(g);
  const int64_t classes = transposed ? g.stride : 1;  // columns with the same taps
  const int64_t columns = narrow ? to.width : classes;
  // The input pixel of an output pixel and a tap along one axis; no_tap: none.
  const int64_t no_tap = INT64_MIN;
  auto source = [&](int64_t i, int64_t k) {
    if (!transposed) return i * g.stride + k - g.padding();
    const int64_t shifted = i + g.padding() - k;
    const int64_t quotient = floor_div(shifted, g.stride);
    return quotient * g.stride == shifted ? quotient : no_tap;
  };
  for (int64_t r = 0; r < to.height; ++r)
    for (int64_t c = 0; c < std::min(columns, to.width); ++c) {
      Site site{to.at(r, c), narrow ? 0 : (to.width - c + classes - 1) / classes,
                static_cast<int64_t>(plan.places.size()), 0};
      for (int64_t tap = 0; tap < g.taps(); ++tap) {
        const int64_t row = source(r, tap / g.side), column = source(c, tap % g.side);
        if (row < 0 || row >= from.height || column == no_tap || column < -from.margin) continue;
        if (narrow && column >= from.width) continue;
        plan.places.push_back({from.at(row, column), tap});
      }
      site.count = static_cast<int64_t>(plan.places.size()) - site.first;
      plan.sites.push_back(site);
    }
  plan.step = narrow ? from.image() : (transposed ? 1 : g.stride) * from.channels;
  plan.out_step = narrow ? to.image() : classes * to.channels;
  return plan;
}

inline WeightGradient plan_weight_gradient(const Geometry& g, const Layout& x, const Layout& d) {
  WeightGradient plan;
  const bool narrow = is_narrow(g);
  const int64_t rows = narrow ? d.height : ROWS;
  for (int64_t first = 0; first < d.height; first += rows)
    for (int64_t kr = 0; kr < g.side; ++kr)
      for (int64_t kc = 0; kc < g.side; ++kc) {
        TapSegments block{kr * g.side + kc, narrow ? 0 : d.width, {}};
        for (int64_t r = first; r < std::min(first + rows, d.height); ++r) {
          const int64_t row = r * g.stride + kr - g.padding();
          if (row < 0 || row >= x.height) continue;
          for (int64_t c = 0; c < (narrow ? d.width : 1); ++c) {
            const int64_t column = c * g.stride + kc - g.padding();
            if (narrow && (column < 0 || column >= x.width)) continue;
            block.segments.push_back({x.at(row, column), d.at(r, c)});
          }
        }
        if (!block.segments.empty()) plan.blocks.push_back(std::move(block));
      }
  plan.x_step = narrow ? x.image() : g.stride * x.channels;
  plan.d_step = narrow ? d.image() : d.channels;
  return plan;
}

// The kernel as panels: [panel][tap][channel][panel's outputs], zeros beyond the outputs.
// Transposed: panels of input channels, for the gradient of the input.
inline std::vector<float> pack(const float* kernel, const Geometry& g, bool transposed) {
  const int64_t outputs = transposed ? g.inputs : g.outputs;
  const int64_t channels = transposed ? g.outputs : g.inputs;
  const int64_t width = panel_vectors(rounded(outputs)) * LANES;
  std::vector<float> packed(rounded(outputs) * g.taps() * channels);
  float* to = packed.data();
  for (int64_t panel = 0; panel < outputs; panel += width) {
    const int64_t used = std::min(width, outputs - panel);
    for (int64_t tap = 0; tap < g.taps(); ++tap) {
      const float* from = kernel + tap * g.inputs * g.outputs;
      for (int64_t channel = 0; channel < channels; ++channel, to += width) {
        const float* row = transposed ? from + panel * g.outputs + channel
                                      : from + channel * g.outputs + panel;
        const int64_t step = transposed ? g.outputs : 1;
        for (int64_t j = 0; j < used; ++j) to[j] = row[j * step];
      }
    }
  }
  return packed;
}

// out = the convolution of one tile; `channels` of the `from` buffer are summed over.
inline void convolve(const Convolution& plan, const Geometry& g, const float* from,
                     int64_t channels, const float* packed, float* to, int64_t to_channels,
                     int64_t images, Prefetch ahead) {
  const int64_t vectors = panel_vectors(to_channels), width = vectors * LANES;
  const int64_t blocks = (channels + CHANNEL_BLOCK - 1) / CHANNEL_BLOCK;
  ahead.begin(to_channels / width * blocks * static_cast<int64_t>(plan.sites.size()));
  for (int64_t panel = 0; panel < to_channels; panel += width)
    for (int64_t begin = 0; begin < channels; begin += CHANNEL_BLOCK) {
      const int64_t used = std::min(CHANNEL_BLOCK, channels - begin);
      const float* weights = packed + (panel * g.taps() * channels) + begin * width;
      for (const Site& site : plan.sites) {
        Tap taps[9];
        for (int64_t t = 0; t < site.count; ++t) {
          const Place& place = plan.places[site.first + t];
          taps[t] = {from + place.offset + begin, weights + place.tap * channels * width};
        }
        const int64_t positions = site.positions ? site.positions : images;
        for_parts(positions, LONGEST, [&](int64_t first, int64_t size) {
          convolve_kernel(size, vectors)(taps, site.count, first * plan.step, used, plan.step,
                                         to + site.out + first * plan.out_step + panel,
                                         plan.out_step, begin > 0);
        });
        ahead.step();
      }
    }
}

// gradient[tap][input][rounded outputs] += the products of one tile.
inline void accumulate(const WeightGradient& plan, const Geometry& g, const float* x,
                       const float* d, int64_t d_channels, float* gradient, int64_t images,
                       Prefetch ahead) {
  const int64_t vectors = panel_vectors(d_channels), width = vectors * LANES;
  ahead.begin(static_cast<int64_t>(plan.blocks.size()));
  for (const TapSegments& block : plan.blocks) {
    for_parts(g.inputs, LONGEST, [&](int64_t first, int64_t size) {
      const Accumulate kernel = accumulate_kernel(size, vectors);
      float* row = gradient + (block.tap * g.inputs + first) * d_channels;
      for (int64_t panel = 0; panel < d_channels; panel += width)
        kernel(x + first, d + panel, block.segments.data(), block.segments.size(),
               block.positions ? block.positions : images, plan.x_step, plan.d_step, row + panel,
               d_channels);
    });
    ahead.step();
  }
}

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
