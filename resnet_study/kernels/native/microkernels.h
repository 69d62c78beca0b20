// The inner loops, everything else only feeds them: a block of outputs kept in registers while
// products are summed into it. The order of a sum never depends on the vector width.

#pragma once

#include <array>
#include <utility>

#include "simd.h"

namespace resnet_study {
namespace INSTRUCTIONS {

#if defined(__AVX512F__)
constexpr int LANES = 16, WIDEST = 2, LONGEST = 12, SUMS = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8, WIDEST = 2, LONGEST = 6, SUMS = 8;
#elif defined(__aarch64__)
constexpr int LANES = 4, WIDEST = 4, LONGEST = 6, SUMS = 16;
#else
constexpr int LANES = 4, WIDEST = 2, LONGEST = 6, SUMS = 8;
#endif
// LANES floats are one vector; a panel is up to WIDEST vectors of output channels; a strip is
// up to LONGEST positions. WIDEST * LONGEST sums and WIDEST weights fit the registers. Winograd's
// products keep SUMS sums.

// body(0), ..., body(n - 1), each with its index as a constant. Sums in an array that a loop
// indexes are copied through the stack by GCC; with constants each is a register.
template <class Body, int... i>
inline __attribute__((always_inline)) void with_constants(std::integer_sequence<int, i...>,
                                                          Body body) {
  (body(std::integral_constant<int, i>{}), ...);
}
template <int n, class Body>
inline __attribute__((always_inline)) void with_constants(Body body) {
  with_constants(std::make_integer_sequence<int, n>{}, body);
}
#define INLINED __attribute__((always_inline))

// One kernel position of a convolution: where the strip's inputs and the panel's weights are.
struct Tap {
  const float* x;
  const float* w;
};

// out[p][panel] (+)= sum over taps and channels of
// x[offset + p * step + channel] * w[channel][panel].
template <int positions, int vectors>
void convolve_strip(const Tap* taps, int64_t count, int64_t offset, int64_t channels, int64_t step,
                    float* out, int64_t out_step, bool accumulate) {
  Floats<LANES> sum[positions * vectors];
  with_constants<positions * vectors>([&](auto i) INLINED {
    const float* from = out + i / vectors * out_step + i % vectors * LANES;
    sum[i] = accumulate ? load<LANES>(from) : Floats<LANES>{};
  });
  for (int64_t t = 0; t < count; ++t) {
    const float* x = taps[t].x + offset;
    const float* w = taps[t].w;
#pragma GCC unroll 2
    for (int64_t channel = 0; channel < channels; ++channel) {
      Floats<LANES> weight[vectors];
      for (int v = 0; v < vectors; ++v) weight[v] = load<LANES>(w + v * LANES);
      with_constants<positions * vectors>(
          [&](auto i) INLINED { sum[i] += weight[i % vectors] * x[i / vectors * step]; });
      w += vectors * LANES;
      ++x;
    }
  }
  with_constants<positions * vectors>([&](auto i) INLINED {
    store<LANES>(out + i / vectors * out_step + i % vectors * LANES, sum[i]);
  });
}

// A run of positions whose products go into one block of the weight gradient.
struct Segment {
  int64_t x, d;
};

// gradient[channel][panel] += sum over segments and positions of
// x[position][channel] * d[position][panel], for `channels` neighbouring input channels.
template <int channels, int vectors>
void accumulate_block(const float* x, const float* d, const Segment* segments, int64_t count,
                      int64_t positions, int64_t x_step, int64_t d_step, float* gradient,
                      int64_t gradient_step) {
  Floats<LANES> sum[channels * vectors];
  with_constants<channels * vectors>([&](auto i) INLINED {
    sum[i] = load<LANES>(gradient + i / vectors * gradient_step + i % vectors * LANES);
  });
  for (int64_t s = 0; s < count; ++s) {
    const float* xs = x + segments[s].x;
    const float* ds = d + segments[s].d;
#pragma GCC unroll 2
    for (int64_t position = 0; position < positions; ++position) {
      Floats<LANES> right[vectors];
      for (int v = 0; v < vectors; ++v) right[v] = load<LANES>(ds + v * LANES);
      with_constants<channels * vectors>(
          [&](auto i) INLINED { sum[i] += right[i % vectors] * xs[i / vectors]; });
      xs += x_step;
      ds += d_step;
    }
  }
  with_constants<channels * vectors>([&](auto i) INLINED {
    store<LANES>(gradient + i / vectors * gradient_step + i % vectors * LANES, sum[i]);
  });
}

using Convolve = decltype(&convolve_strip<1, 1>);
using Accumulate = decltype(&accumulate_block<1, 1>);

// Tables of the instantiations for 1 to LONGEST positions or channels.
template <int vectors, int... n>
constexpr std::array<Convolve, sizeof...(n)> convolve_table(std::integer_sequence<int, n...>) {
  return {&convolve_strip<n + 1, vectors>...};
}
template <int vectors, int... n>
constexpr std::array<Accumulate, sizeof...(n)> accumulate_table(std::integer_sequence<int, n...>) {
  return {&accumulate_block<n + 1, vectors>...};
}

inline Convolve convolve_kernel(int64_t positions, int64_t vectors) {
  constexpr auto sizes = std::make_integer_sequence<int, LONGEST>{};
  static constexpr auto one = convolve_table<1>(sizes);
  static constexpr auto all = convolve_table<WIDEST>(sizes);
  return (vectors == 1 ? one : all)[positions - 1];
}

inline Accumulate accumulate_kernel(int64_t channels, int64_t vectors) {
  constexpr auto sizes = std::make_integer_sequence<int, LONGEST>{};
  static constexpr auto one = accumulate_table<1>(sizes);
  static constexpr auto all = accumulate_table<WIDEST>(sizes);
  return (vectors == 1 ? one : all)[channels - 1];
}

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
