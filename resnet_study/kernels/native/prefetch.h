// Memory that is wanted soon, fetched into the cache a few lines at a time between products, which
// leave the way to memory idle. Only a hint: it changes no result.

#pragma once

#include <algorithm>
#include <cstdint>

namespace resnet_study {
namespace INSTRUCTIONS {

class Prefetch {
 public:
  void read(const float* from, int64_t floats) { add(from, floats, false); }
  void written(const float* from, int64_t floats) { add(from, floats, true); }

  // Spreads what was named over so many calls of `step`.
  void begin(int64_t steps) {
    for (int i = 0; i < count_; ++i) {
      const int64_t lines = (ranges_[i].end - ranges_[i].at + LINE - 1) / LINE;
      ranges_[i].share = (lines + steps - 1) / steps * LINE;
    }
  }

  void step() {
    for (int i = 0; i < count_; ++i) {
      Range& range = ranges_[i];
      const char* const end = std::min(range.at + range.share, range.end);
      if (range.written)
        for (; range.at < end; range.at += LINE) __builtin_prefetch(range.at, 1);
      else
        for (; range.at < end; range.at += LINE) __builtin_prefetch(range.at, 0);
    }
  }

 private:
  static constexpr int64_t LINE = 64;  // bytes
  static constexpr int MOST = 4;

  struct Range {
    const char* at;
    const char* end;
    int64_t share;
    bool written;
  };

  // Nothing for an array that is absent or at its end.
  void add(const float* from, int64_t floats, bool written) {
    if (!from || floats <= 0 || count_ == MOST) return;
    const char* at = reinterpret_cast<const char*>(from);
    ranges_[count_++] = {at, at + 4 * floats, 0, written};
  }

  Range ranges_[MOST];
  int count_ = 0;
};

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
