// Whole tensors of float32 entries: norms and angles, summed in float64, and a step of descent.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <type_traits>
#include <vector>

#include "layer.h"
#include "microkernels.h"
#include "simd.h"

namespace resnet_study {
namespace INSTRUCTIONS {

// body(lanes, i) over all entries, whole vectors first.
template <class Body>
inline void for_lanes(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) body(std::integral_constant<int, LANES>{}, i);
  for (; i < count; ++i) body(std::integral_constant<int, 1>{}, i);
}

inline double squares(const float* from, int64_t count) {
  Squares<LANES> whole;
  Squares<1> rest;
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) whole.add(from + i);
  for (; i < count; ++i) rest.add(from + i);
  return whole.total() + rest.total();
}

// Sums over the entries of three tensors of what body(w, x, y) returns, as many numbers as it does.
template <size_t sums, class Body>
inline std::array<double, sums> sum_entries(const float* w, const float* x, const float* y,
                                            int64_t count, Body body) {
  constexpr int half = LANES / 2;
  using Wide = Doubles<half>;
  const auto wide = [](const float* at) INLINED {
    return __builtin_convertvector(load<half>(at), Wide);
  };
  std::array<Wide, sums> chains[2] = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    with_constants<2>([&](auto h) INLINED {
      const int64_t at = i + h * half;
      const auto terms = body(wide(w + at), wide(x + at), wide(y + at));
      with_constants<sums>([&](auto s) INLINED { chains[h][s] += terms[s]; });
    });
  std::array<double, sums> totals = {};
  for (size_t s = 0; s < sums; ++s)
    for (int j = 0; j < half; ++j) totals[s] += chains[0][s][j] + chains[1][s][j];
  for (; i < count; ++i) {
    const auto terms = body(double{w[i]}, double{x[i]}, double{y[i]});
    for (size_t s = 0; s < sums; ++s) totals[s] += terms[s];
  }
  return totals;
}

// What is known of tensors x and y when their parts x' and y' orthogonal to a tensor w are.
struct Tangents {
  double norm;    // of w
  double along;   // x w / norm
  double across;  // the norm of x'
  double cosine;  // of the angle between x' and y'
};

// The parts of x and y that are orthogonal to w are taken entry by entry, in a second pass: from
// sums alone a small one would cancel.
inline Tangents tangents(const float* w, const float* x, const float* y, int64_t count) {
  const auto [ww, wx, wy] = sum_entries<3>(w, x, y, count, [](auto w, auto x, auto y) INLINED {
    return std::array<decltype(w), 3>{w * w, w * x, w * y};
  });
  const double of_x = wx / ww, of_y = wy / ww;  // NaN where w is 0
  const auto [xx, yy, xy] = sum_entries<3>(w, x, y, count, [=](auto w, auto x, auto y) INLINED {
    const auto a = x - of_x * w, b = y - of_y * w;
    return std::array<decltype(w), 3>{a * a, b * b, a * b};
  });
  const double norm = std::sqrt(ww);
  return {norm, wx / norm, std::sqrt(xx), xy / (std::sqrt(xx) * std::sqrt(yy))};
}

// v <- momentum v + (g + decay w),  w <- w + update  with  update = -rate scale v,  and with
// Nesterov's momentum  -rate scale (momentum v + (g + decay w)). Old and new may be one array.
inline void descend(const Descent& d, const Step& step, std::vector<float>& scratch) {
  const int64_t count = step.count;
  scratch.resize(2 * count);
  float* const velocity = scratch.data();
  float* const update = velocity + count;
  const float factor = -d.rate * step.scale;
  for_lanes(count, [&](auto lanes, int64_t i) INLINED {
    constexpr int L = decltype(lanes)::value;
    const auto gradient = load<L>(step.gradient + i) + step.decay * load<L>(step.weights + i);
    const auto v = gradient + d.momentum * load<L>(step.velocity + i);
    store<L>(velocity + i, v);
    store<L>(update + i, factor * (d.nesterov ? gradient + d.momentum * v : v));
  });
  if (step.measured) {
    const Tangents turn = tangents(step.weights, update, update, count);
    const Tangents along = tangents(step.weights, step.gradient, step.velocity, count);
    const double numbers[] = {std::sqrt(squares(step.gradient, count)), turn.norm,
                              std::sqrt(squares(update, count)),
                              std::atan2(turn.across, turn.norm + turn.along), along.cosine};
    std::copy(std::begin(numbers), std::end(numbers), step.measured);
  }
  for_lanes(count, [&](auto lanes, int64_t i) INLINED {
    constexpr int L = decltype(lanes)::value;
    store<L>(step.new_velocity + i, load<L>(velocity + i));
    store<L>(step.new_weights + i, load<L>(step.weights + i) + load<L>(update + i));
  });
}

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
