// Float32 multiply-adds per second out of registers alone: what no kernel can exceed.
//
//     c++ -O3 -march=native -ffp-contract=fast peak.cpp -pthread -o peak && ./peak THREADS
//
// Prints 1e9 operations per second of all threads together, a multiply-add being two.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
typedef float Lanes __attribute__((vector_size(BYTES)));

constexpr int SUMS = 12;  // independent ones, more than are under way at once
constexpr long TIMES = 10'000'000;

float work() {
  Lanes sums[SUMS], factor, term;
  for (int j = 0; j < BYTES / 4; ++j) factor[j] = 0.999f, term[j] = 0.001f;
  for (int i = 0; i < SUMS; ++i) sums[i] = term * static_cast<float>(i);
  for (long t = 0; t < TIMES; ++t)
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; ++i) sums[i] = sums[i] * factor + term;
  float total = 0;
  for (int i = 0; i < SUMS; ++i) total += sums[i][0];
  return total;
}

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  double best = 0;
  for (int round = 0; round < 20; ++round) {
    std::atomic<float> kept{0};
    const auto began = std::chrono::steady_clock::now();
    std::vector<std::thread> all;
    for (int i = 0; i < threads; ++i) all.emplace_back([&kept] { kept = work(); });
    for (auto& thread : all) thread.join();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const double operations = 2.0 * threads * TIMES * SUMS * (BYTES / 4);
    best = std::max(best, kept > 0 ? operations / took.count() / 1e9 : 0.0);
  }
  std::printf("%.1f\n", best);
}
