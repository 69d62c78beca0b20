// A layer forward and backward, one tile of images at a time: everything that is done to a tile
// happens while it is in the cache, so that main memory sees each array once.
//
// Compiled once per instruction set. Images are divided into shards by the shape alone and
// partial sums are added in the order of the shards, so results do not depend on threads.

#include "layer.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "microkernels.h"
#include "plan.h"
#include "tensors.h"
#include "tile.h"
#include "winograd.h"

namespace resnet_study {
namespace INSTRUCTIONS {
namespace {

void forward(const Forward& call, const Parallel& parallel) {
  const Geometry& g = call.geometry;
  const Layout from = input_layout(g), to = output_layout(g, 0);
  const Convolution plan = plan_convolution(g, from, to, false);
  const Shards shards(g);
  const std::unique_ptr<Winograd> winograd = winograd_of(g, shards.tile);
  const std::vector<float> packed =
      winograd ? winograd->kernel(call.kernel, false) : pack(call.kernel, g, false);
  const bool direct = to.channels == g.outputs;  // no channels to leave out
  std::vector<Moments> moments(shards.count, Moments(call.mean ? g.outputs : 0));
  std::vector<int64_t> zeros(shards.count);
  parallel(shards.count, [&](int64_t shard) {
    static thread_local Scratch scratch;
    const int64_t size = shards.tile * from.image();
    float* x = scratch.take(size + (winograd ? winograd->scratch() : shards.tile * to.image()));
    float* rest = x + size;  // outputs with room for all of a vector, or transforms
    shards.for_tiles(shard, [&](int64_t image, int64_t images) {
      zeros[shard] += activate(call.input, g, from, image, images, x, call.x);
      float* out = call.out + image * g.out_size();
      const int64_t next = image + images, at = next * g.in_size();
      const int64_t size = std::min(images, g.images - next) * g.in_size();
      Prefetch ahead;
      ahead.written(out, images * g.out_size());
      ahead.read(call.input.z + at, size);
      if (call.input.skip) ahead.read(call.input.skip + at, size);
      if (call.x) ahead.written(call.x + at, size);
      if (winograd)
        winograd->convolve(from, to, x, packed.data(), out, images, rest, ahead);
      else
        convolve(plan, g, x, g.inputs, packed.data(), direct ? out : rest, to.channels, images,
                 ahead);
      if (!direct)
        for (int64_t p = 0; p < images * g.out_height() * g.out_width(); ++p)
          std::copy_n(rest + p * to.channels, g.outputs, out + p * g.outputs);
      if (call.mean) add_moments(g, out, images, moments[shard]);
    });
  });
  if (call.mean) {
    Moments all(g.outputs);
    for (const Moments& part : moments) {
      for (int64_t c = 0; c < g.outputs; ++c)
        all.merge(c, part.mean[c], part.squares[c], part.count);
      all.count += part.count;
    }
    for (int64_t c = 0; c < g.outputs; ++c) {
      call.mean[c] = static_cast<float>(all.mean[c]);
      call.variance[c] = static_cast<float>(all.squares[c] / all.count);
    }
  }
  if (call.inactive) {
    int64_t sum = 0;
    for (int64_t part : zeros) sum += part;
    *call.inactive = static_cast<int32_t>(sum);
  }
}

// Sums of one shard.
struct Partial {
  std::vector<double> factor, shift;
  double out_squares = 0, response_squares = 0;

  explicit Partial(int64_t channels) : factor(channels), shift(channels) {}
};

// Writes what a layer's input gets from all shards; returns the squares of the output's gradient.
double add_up(const std::vector<Partial>& partials, const Backward& call) {
  Partial all(call.input.activated() ? call.geometry.inputs : 0);
  for (const Partial& part : partials) {
    all.out_squares += part.out_squares;
    all.response_squares += part.response_squares;
    for (size_t c = 0; c < all.shift.size(); ++c)
      all.factor[c] += part.factor[c], all.shift[c] += part.shift[c];
  }
  for (size_t c = 0; c < all.shift.size(); ++c) {
    call.factor_gradient[c] = static_cast<float>(all.factor[c]);
    call.shift_gradient[c] = static_cast<float>(all.shift[c]);
  }
  *call.response_norm = static_cast<float>(std::sqrt(all.response_squares));
  return all.out_squares;
}

// The whole gradient with respect to out, with what comes through its statistics.
void gather(const Backward& call, const Layout& layout, const float* constant, const float* slope,
            int64_t image, int64_t images, float* buffer, Partial& partial) {
  const Geometry& g = call.geometry;
  const int64_t channels = g.outputs, width = g.out_width();
  for (int64_t i = 0; i < images; ++i, buffer += layout.image()) {
    clear_margins(layout, buffer);
    for (int64_t r = 0; r < g.out_height(); ++r) {
      const int64_t start = (image + i) * g.out_size() + r * width * channels;
      float* d = buffer + layout.at(r, 0);
      for_lanes(channels, [&](auto lanes, int64_t c) {
        constexpr int L = decltype(lanes)::value;
        Floats<L> a = {}, b = {}, mean = {};
        if (call.mean)
          a = load<L>(constant + c), b = load<L>(slope + c), mean = load<L>(call.mean + c);
        for (int64_t p = 0; p < width; ++p) {
          auto v = load<L>(call.out_gradient + start + p * channels + c);
          if (call.mean) v += a + b * (load<L>(call.out + start + p * channels + c) - mean);
          store<L>(d + p * layout.channels + c, v);
        }
        Squares<L> squares;
        for (int64_t p = 0; p < width; ++p) squares.add(d + p * layout.channels + c);
        partial.out_squares += squares.total();
      });
    }
  }
}

// From the gradient with respect to x to those of what x was made of.
void scatter(const Backward& call, const Layout& from, const Layout& layout, const float* x,
             float* gradient, int64_t image, int64_t images, Partial& partial) {
  const Geometry& g = call.geometry;
  const int64_t channels = g.inputs;
  for (int64_t i = 0; i < images; ++i, x += from.image())
    for (int64_t r = 0; r < g.height; ++r) {
      const int64_t start = (image + i) * g.in_size() + r * g.width * channels;
      const float* x_row = x + from.at(r, 0);
      float* g_row = gradient + i * layout.image() + layout.at(r, 0);
      for_lanes(channels, [&](auto lanes, int64_t c) {
        constexpr int L = decltype(lanes)::value;
        float* z_gradient = call.z_gradient + start + c;
        if (!call.input.activated()) {
          for (int64_t p = 0; p < g.width; ++p)
            store<L>(z_gradient + p * channels, load<L>(g_row + p * layout.channels + c));
          return;
        }
        const auto mean = load<L>(call.input.mean + c), factor = load<L>(call.input.factor + c);
        const Floats<L> zero = {};
        Sum<L> shift_sum, factor_sum;
        for_pixels(g.width, [&](int chain, int64_t p) {
          auto v = load<L>(g_row + p * layout.channels + c);
          if (call.x_gradient) v += load<L>(call.x_gradient + start + p * channels + c);
          v = load<L>(x_row + p * from.channels + c) > zero ? v : zero;
          shift_sum.chain[chain] += v;
          factor_sum.chain[chain] += v * (load<L>(call.input.z + start + p * channels + c) - mean);
          store<L>(g_row + p * layout.channels + c, v);
          store<L>(z_gradient + p * channels, v * factor);
          if (call.skip_gradient) store<L>(call.skip_gradient + start + p * channels + c, v);
        });
        const Floats<L> shift_total = shift_sum.total(), factor_total = factor_sum.total();
        for (int j = 0; j < L; ++j) {
          partial.shift[c + j] += shift_total[j];
          partial.factor[c + j] += factor_total[j];
        }
        Squares<L> squares;
        for (int64_t p = 0; p < g.width; ++p) squares.add(g_row + p * layout.channels + c);
        partial.response_squares += squares.total();
      });
    }
}

void backward(const Backward& call, const Parallel& parallel) {
  const Geometry& g = call.geometry;
  const Layout from = input_layout(g);
  // Strips of the input gradient read the columns beside the map too.
  const Layout d_layout = output_layout(g, is_narrow(g) ? 0 : g.padding());
  const Layout gradient_layout{g.height, g.width, rounded(g.inputs), 0};
  const Convolution plan = plan_convolution(g, d_layout, gradient_layout, true);
  const WeightGradient weights = plan_weight_gradient(g, from, d_layout);
  const Shards shards(g);
  const std::unique_ptr<Winograd> winograd = winograd_of(g, shards.tile);
  std::vector<float> packed;
  if (call.z_gradient)
    packed = winograd ? winograd->kernel(call.kernel, true) : pack(call.kernel, g, true);

  std::vector<float> constant(g.outputs), slope(g.outputs);
  if (call.mean) {
    const double count = static_cast<double>(g.images * g.out_height() * g.out_width());
    for (int64_t c = 0; c < g.outputs; ++c) {
      constant[c] = static_cast<float>(call.mean_gradient[c] / count);
      slope[c] = static_cast<float>(2 * call.variance_gradient[c] / count);
    }
  }

  // With x from the forward pass the input is only copied.
  const Input copied{call.x, nullptr, nullptr, nullptr, nullptr};
  const Input& input = call.x ? copied : call.input;
  const int64_t kernel_size = g.taps() * g.inputs * d_layout.channels;
  std::unique_ptr<float[]> kernel_parts(new float[shards.count * kernel_size]);
  std::vector<Partial> partials(shards.count, Partial(call.input.activated() ? g.inputs : 0));
  parallel(shards.count, [&](int64_t shard) {
    static thread_local Scratch scratch;
    const int64_t maps =
        shards.tile * (from.image() + d_layout.image() + gradient_layout.image());
    const int64_t entries = winograd ? winograd->sums() : 0;
    float* x = scratch.take(maps + entries + (winograd ? winograd->scratch() : 0));
    float* d = x + shards.tile * from.image();
    float* gradient = d + shards.tile * d_layout.image();
    float* sums = x + maps;
    float* transforms = sums + entries;
    std::fill_n(sums, entries, 0.0f);
    float* kernel_part = kernel_parts.get() + shard * kernel_size;
    if (!winograd) std::fill_n(kernel_part, kernel_size, 0.0f);
    shards.for_tiles(shard, [&](int64_t image, int64_t images) {
      gather(call, d_layout, constant.data(), slope.data(), image, images, d, partials[shard]);
      activate(input, g, from, image, images, x, nullptr);
      // During the first products what `scatter` needs, during the last what the next tile needs.
      const int64_t at = image * g.in_size(), size = images * g.in_size();
      Prefetch now;
      if (call.z_gradient) {
        now.written(call.z_gradient + at, size);
        if (call.input.activated()) now.read(call.input.z + at, size);
        if (call.x_gradient) now.read(call.x_gradient + at, size);
        if (call.skip_gradient) now.written(call.skip_gradient + at, size);
      }
      Prefetch later;
      const int64_t next = image + images, left = std::min(images, g.images - next);
      later.read(call.out_gradient + next * g.out_size(), left * g.out_size());
      if (call.mean) later.read(call.out + next * g.out_size(), left * g.out_size());
      later.read(input.z + next * g.in_size(), left * g.in_size());
      const Prefetch& first = call.z_gradient ? now : later;
      if (winograd)
        winograd->accumulate(from, d_layout, x, d, sums, images, transforms, first);
      else
        accumulate(weights, g, x, d, d_layout.channels, kernel_part, images, first);
      if (!call.z_gradient) return;
      if (winograd)
        winograd->convolve(d_layout, gradient_layout, d, packed.data(), gradient, images,
                           transforms, later);
      else
        convolve(plan, g, d, g.outputs, packed.data(), gradient, gradient_layout.channels,
                 images, later);
      scatter(call, from, gradient_layout, x, gradient, image, images, partials[shard]);
    });
    if (winograd) winograd->kernel_gradient(sums, kernel_part);
  });

  parallel(g.taps(), [&](int64_t tap) {
    for (int64_t i = tap * g.inputs; i < (tap + 1) * g.inputs; ++i) {
      float* to = call.kernel_gradient + i * g.outputs;
      std::copy_n(kernel_parts.get() + i * d_layout.channels, g.outputs, to);
      for (int64_t shard = 1; shard < shards.count; ++shard) {
        const float* part = kernel_parts.get() + shard * kernel_size + i * d_layout.channels;
        for (int64_t c = 0; c < g.outputs; ++c) to[c] += part[c];
      }
    }
  });
  *call.out_norm = static_cast<float>(std::sqrt(add_up(partials, call)));
}

void pool(const Pool& call, const Parallel& parallel) {
  const Geometry& g = call.geometry;
  const Layout layout{g.height, g.width, g.inputs, 0};
  const Shards shards(g);
  std::vector<int64_t> zeros(shards.count);
  parallel(shards.count, [&](int64_t shard) {
    static thread_local Scratch scratch;
    float* x = scratch.take(shards.tile * layout.image());
    shards.for_tiles(shard, [&](int64_t image, int64_t images) {
      zeros[shard] += activate(call.input, g, layout, image, images, x, nullptr);
      for (int64_t i = 0; i < images; ++i)
        for (int64_t c = 0; c < g.inputs; ++c) {
          float sum = 0;
          for (int64_t p = 0; p < g.height * g.width; ++p)
            sum += x[i * layout.image() + p * g.inputs + c];
          call.pooled[(image + i) * g.inputs + c] = sum / static_cast<float>(g.height * g.width);
        }
    });
  });
  int64_t sum = 0;
  for (int64_t part : zeros) sum += part;
  *call.inactive = static_cast<int32_t>(sum);
}

void pool_backward(const PoolBackward& call, const Parallel& parallel) {
  const Geometry& g = call.geometry;
  const Layout layout{g.height, g.width, g.inputs, 0};
  const Shards shards(g);
  Backward same{};
  same.geometry = g, same.input = call.input;
  same.z_gradient = call.z_gradient, same.skip_gradient = call.skip_gradient;
  same.factor_gradient = call.factor_gradient, same.shift_gradient = call.shift_gradient;
  same.response_norm = call.response_norm;
  std::vector<Partial> partials(shards.count, Partial(g.inputs));
  const float share = 1.0f / static_cast<float>(g.height * g.width);
  parallel(shards.count, [&](int64_t shard) {
    static thread_local Scratch scratch;
    float* x = scratch.take(2 * shards.tile * layout.image());
    float* gradient = x + shards.tile * layout.image();
    shards.for_tiles(shard, [&](int64_t image, int64_t images) {
      activate(call.input, g, layout, image, images, x, nullptr);
      for (int64_t i = 0; i < images; ++i)
        for (int64_t p = 0; p < g.height * g.width; ++p)
          for (int64_t c = 0; c < g.inputs; ++c)
            gradient[i * layout.image() + p * g.inputs + c] =
                call.pooled_gradient[(image + i) * g.inputs + c] * share;
      scatter(same, layout, layout, x, gradient, image, images, partials[shard]);
    });
  });
  add_up(partials, same);
}

}  // namespace

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
extern const Implementation implementation;
const Implementation implementation{TEXT(INSTRUCTIONS), descend, forward, backward, pool,
                                    pool_backward};

}  // namespace INSTRUCTIONS
}  // namespace resnet_study
