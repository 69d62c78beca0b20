// Layers by vectors of four and of eight floats, both with fused multiplication and addition: the
// same bits, whatever the order of the shards. Built with sanitizers by test_winograd.py.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "layer.h"

namespace resnet_study {
namespace four {
extern const Implementation implementation;
}
namespace eight {
extern const Implementation implementation;
}
}  // namespace resnet_study

using namespace resnet_study;

// Arrays of exactly their length, so that the sanitizer sees what lies beyond.
class Floats {
 public:
  explicit Floats(int64_t size) : size_(size), at_(new float[size]) {
    std::memset(at_.get(), 0xff, 4 * size);  // NaN: whatever is not written shows
  }
  Floats(int64_t size, std::mt19937& random) : Floats(size) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < size; ++i) at_[i] = normal(random);
  }
  operator float*() { return at_.get(); }
  bool same(const Floats& other) const {
    return std::memcmp(at_.get(), other.at_.get(), 4 * size_) == 0;
  }
  bool finite() const {
    for (int64_t i = 0; i < size_; ++i)
      if (!(at_[i] - at_[i] == 0)) return false;
    return true;
  }

 private:
  int64_t size_;
  std::unique_ptr<float[]> at_;
};

std::vector<Floats> results(const Implementation& code, const Geometry& g, bool backwards) {
  const Parallel shards = [&](int64_t count, const std::function<void(int64_t)>& body) {
    for (int64_t i = 0; i < count; ++i) body(backwards ? count - 1 - i : i);
  };
  std::mt19937 random(1);
  const int64_t ins = g.images * g.in_size(), outs = g.images * g.out_size();
  Floats z(ins, random), skip(ins, random), kernel(g.taps() * g.inputs * g.outputs, random);
  Floats mean(g.inputs, random), factor(g.inputs, random), shift(g.inputs, random);
  Floats d(outs, random), more(ins, random), dm(g.outputs, random), dv(g.outputs, random);
  const Input input{z, mean, factor, shift, skip};
  std::vector<Floats> made;
  const int64_t kernel_size = g.taps() * g.inputs * g.outputs;
  for (int64_t size : {ins, outs, g.outputs, g.outputs, ins, ins, g.inputs, g.inputs, kernel_size})
    made.emplace_back(size);
  int32_t inactive;
  float norms[2];
  code.forward({g, input, kernel, made[0], made[1], made[2], made[3], &inactive}, shards);
  code.backward({g, input, kernel, made[0], made[1], d, made[2], dm, dv, more, made[4], made[5],
                 made[6], made[7], made[8], &norms[0], &norms[1]},
                shards);
  return made;
}

int main() {
  const Geometry geometries[] = {{37, 4, 4, 32, 32, 3, 1, false},  {5, 2, 6, 16, 48, 3, 1, false},
                                 {3, 8, 8, 64, 64, 3, 1, false},   {5, 16, 16, 32, 32, 3, 1, false},
                                 {2, 32, 32, 16, 16, 3, 1, false}, {2, 10, 14, 16, 48, 3, 1, false},
                                 {2, 2, 8, 48, 16, 3, 1, false},   {1, 6, 40, 16, 16, 3, 1, false},
                                 {3, 8, 8, 64, 64, 3, 1, true},    {3, 9, 12, 16, 16, 3, 1, false},
                                 {9, 4, 4, 32, 32, 3, 1, false},   {21, 2, 2, 64, 48, 3, 1, false},
                                 {3, 16, 16, 16, 32, 3, 2, false}};
  int wrong = 0;
  for (const Geometry& g : geometries) {
    const auto base = results(eight::implementation, g, false);
    const auto reversed = results(eight::implementation, g, true);
    const auto narrow = results(four::implementation, g, false);
    for (size_t i = 0; i < base.size(); ++i) {
      const bool good = base[i].finite() && base[i].same(reversed[i]) && base[i].same(narrow[i]);
      if (!good)
        std::printf("%ldx%ld, %ld to %ld, stride %ld: result %zu\n", long(g.height), long(g.width),
                    long(g.inputs), long(g.outputs), long(g.stride), i);
      wrong += !good;
    }
  }
  return wrong != 0;
}
