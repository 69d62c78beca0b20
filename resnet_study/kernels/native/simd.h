// Vectors of a width that the compiler is told, LANES floats, by the compiler's own extension.

#pragma once

#include <cstdint>
#include <cstring>

namespace resnet_study {
namespace INSTRUCTIONS {

template <int lanes>
struct Vector {
  typedef float floats __attribute__((vector_size(4 * lanes)));
  typedef int32_t ints __attribute__((vector_size(4 * lanes)));
  typedef double doubles __attribute__((vector_size(8 * lanes)));
};

template <int lanes>
using Floats = typename Vector<lanes>::floats;
template <int lanes>
using Ints = typename Vector<lanes>::ints;
template <int lanes>
using Doubles = typename Vector<lanes>::doubles;

template <int lanes>
inline Floats<lanes> load(const float* from) {
  Floats<lanes> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <int lanes>
inline void store(float* to, Floats<lanes> v) {
  std::memcpy(to, &v, sizeof v);
}

// Adds up squares of floats in memory in double precision, which neither overflows nor vanishes.
template <int lanes>
class Squares {
 public:
  void add(const float* from) {
    for (int half = 0; half < 2; ++half) {
      const auto wide =
          __builtin_convertvector(load<lanes / 2>(from + half * (lanes / 2)), Doubles<lanes / 2>);
      sum_[half] += wide * wide;
    }
  }
  double total() const {
    double total = 0;
    for (int half = 0; half < 2; ++half)
      for (int j = 0; j < lanes / 2; ++j) total += sum_[half][j];
    return total;
  }

 private:
  Doubles<lanes / 2> sum_[2] = {};
};

template <>
class Squares<1> {
 public:
  void add(const float* from) { sum_ += static_cast<double>(*from) * *from; }
  double total() const { return sum_; }

 private:
  double sum_ = 0;
};

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
