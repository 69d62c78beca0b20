// The matrices of winograd.h as functions of vectors, and kernels and their gradients through them.

#pragma once

#include <array>
#include <vector>

#include "layer.h"
#include "microkernels.h"
#include "plan.h"

namespace resnet_study {
namespace INSTRUCTIONS {

// Products are summed in up to SUMS registers: of TILES tiles, PANEL_VECTORS vectors of outputs and
// `together` entries where tiles become outputs, of so many inputs and outputs of one entry where
// they become the gradient of the kernel.
constexpr int TILES = 4;
constexpr int PANEL_VECTORS = LANES < CHANNEL_GROUP ? WIDEST : 1;
constexpr int64_t PANEL = PANEL_VECTORS * LANES;
static_assert(CHANNEL_GROUP % PANEL == 0);

using Lane = Floats<LANES>;

// B', A, A', G and G' times a vector along one axis: of tiles that overlap, and of a whole map.
struct Overlapping {
  static constexpr int REACH = 4, SIDE = 4;  // inputs and entries along an axis

  static std::array<Lane, 4> of_input(const std::array<Lane, 4>& x) {
    return {x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]};
  }
  static std::array<Lane, 4> of_gradient(Lane a, Lane b) { return {a, a + b, a - b, -b}; }
  // A' with one entry after the other.
  template <int i>
  static INLINED void add_output(Lane entry, Lane& first, Lane& second) {
    if constexpr (i == 0) first = entry;
    if constexpr (i == 1) first += entry, second = entry;
    if constexpr (i == 2) first += entry, second -= entry;
    if constexpr (i == 3) second -= entry;
  }
  static std::array<Lane, 4> of_kernel(Lane a, Lane b, Lane c) {
    const Lane outer = a + c;
    return {a, (outer + b) * 0.5f, (outer - b) * 0.5f, c};
  }
  static std::array<Lane, 3> of_products(const std::array<Lane, 4>& s) {
    const Lane half = (s[1] + s[2]) * 0.5f;
    return {s[0] + half, (s[1] - s[2]) * 0.5f, half + s[3]};
  }
};

struct Whole {
  static constexpr int REACH = 2, SIDE = 3;

  static std::array<Lane, 3> of_input(const std::array<Lane, 2>& x) {
    return {x[0] - x[1], x[1], x[0]};
  }
  static std::array<Lane, 3> of_gradient(Lane a, Lane b) { return {a - b, a, b}; }
  template <int i>
  static INLINED void add_output(Lane entry, Lane& first, Lane& second) {
    if constexpr (i == 0) first = entry, second = -entry;
    if constexpr (i == 1) first += entry;
    if constexpr (i == 2) second += entry;
  }
  static std::array<Lane, 3> of_kernel(Lane a, Lane b, Lane c) { return {b, b + c, a + b}; }
  static std::array<Lane, 3> of_products(const std::array<Lane, 3>& s) {
    return {s[2], s[0] + (s[1] + s[2]), s[1]};
  }
};

template <class T>
constexpr int ENTRIES = T::SIDE * T::SIDE;
// Entries that are summed together: a row of them, if their sums fit the registers.
template <class T>
constexpr int TOGETHER = SUMS / (TILES * PANEL_VECTORS) >= T::SIDE ? T::SIDE : 1;

// The kernel of the gradient of the input: turned by 180 degrees, its channels exchanged.
inline std::vector<float> turned(const float* kernel, const Geometry& g) {
  std::vector<float> made(9 * g.inputs * g.outputs);
  for (int64_t tap = 0; tap < 9; ++tap) {
    const float* from = kernel + tap * g.inputs * g.outputs;
    float* to = made.data() + (8 - tap) * g.inputs * g.outputs;
    for (int64_t output = 0; output < g.outputs; ++output)
      for (int64_t input = 0; input < g.inputs; ++input)
        to[output * g.inputs + input] = from[input * g.outputs + output];
  }
  return made;
}

// G g G' of every pair of channels, in the order in which `convolve_tiles` reads it:
// [panel][entries / together][channel][together][panel's outputs].
template <class T>
std::vector<float> winograd_kernel(const float* kernel, int64_t channels, int64_t outputs) {
  const int64_t pairs = channels * outputs;
  constexpr int64_t side = T::SIDE, together = TOGETHER<T>;
  std::vector<float> transformed(ENTRIES<T> * pairs);
  auto place = [&](int64_t entry, int64_t channel, int64_t output) {
    const int64_t group = output / PANEL * (ENTRIES<T> / together) + entry / together;
    return transformed.data() +
           ((group * channels + channel) * together + entry % together) * PANEL + output % PANEL;
  };
  for (int64_t channel = 0; channel < channels; ++channel)
    for (int64_t output = 0; output < outputs; output += LANES) {
      const float* from = kernel + channel * outputs + output;
      std::array<Lane, side> columns[3];
      for (int64_t c = 0; c < 3; ++c)
        columns[c] =
            T::of_kernel(load<LANES>(from + c * pairs), load<LANES>(from + (3 + c) * pairs),
                         load<LANES>(from + (6 + c) * pairs));
      for (int64_t r = 0; r < side; ++r) {
        const auto row = T::of_kernel(columns[0][r], columns[1][r], columns[2][r]);
        for (int64_t c = 0; c < side; ++c)
          store<LANES>(place(r * side + c, channel, output), row[c]);
      }
    }
  return transformed;
}

// G' s G of every pair of channels; s: [entry][input][output], gradient: [tap][input][output].
template <class T>
void winograd_kernel_gradient(const float* s, const Geometry& g, float* gradient) {
  constexpr int64_t side = T::SIDE;
  const int64_t pairs = g.inputs * g.outputs;
  for (int64_t pair = 0; pair < pairs; pair += LANES) {
    std::array<std::array<Lane, side>, 3> rows;
    for (int64_t c = 0; c < side; ++c) {
      std::array<Lane, side> column;
      for (int64_t r = 0; r < side; ++r)
        column[r] = load<LANES>(s + (r * side + c) * pairs + pair);
      const auto made = T::of_products(column);
      for (int64_t r = 0; r < 3; ++r) rows[r][c] = made[r];
    }
    for (int64_t r = 0; r < 3; ++r) {
      const auto row = T::of_products(rows[r]);
      for (int64_t c = 0; c < 3; ++c)
        store<LANES>(gradient + (r * 3 + c) * pairs + pair, row[c]);
    }
  }
}

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
