// XLA's side: handlers for jax.ffi, XLA's own thread pool, and the choice of vector code.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>

#include "layer.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace resnet_study {

namespace baseline {
extern const Implementation implementation;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Implementation implementation;
}
namespace avx512 {
extern const Implementation implementation;
}
#endif

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;
using Scalar = ffi::Buffer<ffi::F32, 0>;

namespace {

const Implementation* const* implementations() {
#if defined(__x86_64__)
  static const Implementation* const all[] = {&avx512::implementation, &avx2::implementation,
                                              &baseline::implementation, nullptr};
#else
  static const Implementation* const all[] = {&baseline::implementation, nullptr};
#endif
  return all;
}

bool runs_here(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!std::strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (!std::strcmp(name, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return !std::strcmp(name, "baseline");
}

std::atomic<const Implementation*> chosen{nullptr};

const Implementation& implementation() {
  if (const Implementation* known = chosen.load()) return *known;
  for (const Implementation* const* one = implementations(); *one; ++one)
    if (runs_here((*one)->name)) {
      chosen = *one;
      break;
    }
  return *chosen.load();
}

std::atomic<bool> direct{false};  // no layer by Winograd's algorithm

constexpr std::chrono::microseconds AWAKE{50};  // how long a loop is waited for before sleep

// Tells the processor that a loop only waits.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One parallel loop: whoever is free takes the next index. The caller works too and waits only
// for indices that somebody has begun, so a busy pool delays nothing.
struct Loop {
  std::atomic<int64_t> next{0}, finished{0};
  int64_t count;
  const std::function<void(int64_t)>* body;
  std::mutex mutex;
  std::condition_variable done;

  void work() {
    int64_t mine = 0;
    for (int64_t i; (i = next.fetch_add(1)) < count; ++mine) (*body)(i);
    if (!mine || finished.fetch_add(mine) + mine < count) return;
    std::lock_guard<std::mutex> lock(mutex);
    done.notify_all();
  }

  // To sleep and be woken takes longer than most indices of a small layer.
  void wait() {
    const auto over = [&] { return finished.load() == count; };
    const auto end = std::chrono::steady_clock::now() + AWAKE;
    while (!over() && std::chrono::steady_clock::now() < end)
      for (int i = 0; i < 16 && !over(); ++i) pause();
    if (over()) return;
    std::unique_lock<std::mutex> lock(mutex);
    done.wait(lock, over);
  }
};

Parallel on(ffi::ThreadPool& pool) {
  return [&pool](int64_t count, const std::function<void(int64_t)>& body) {
    const int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
    if (helpers < 1) {
      for (int64_t i = 0; i < count; ++i) body(i);
      return;
    }
    auto loop = std::make_shared<Loop>();
    loop->count = count;
    loop->body = &body;
    for (int64_t i = 0; i < helpers; ++i) pool.Schedule([loop] { loop->work(); });
    loop->work();
    loop->wait();
  };
}

// Absent arguments and results are arrays without entries.
const float* maybe(const Array& a) { return a.element_count() ? a.typed_data() : nullptr; }
float* maybe(Result& a) { return a->element_count() ? a->typed_data() : nullptr; }

bool matches(int64_t count, int64_t wanted) { return count == 0 || count == wanted; }

ffi::Error describe(const Array& z, const Array& kernel, int64_t stride, Geometry& g) {
  const auto size = z.dimensions(), k = kernel.dimensions();
  if (size.size() != 4 || k.size() != 4) return ffi::Error::InvalidArgument("not four axes");
  g = {size[0], size[1], size[2], size[3], k[3], k[0], stride, direct};
  if (k[0] != k[1] || k[2] != g.inputs || (g.side != 1 && g.side != 3) || stride < 1)
    return ffi::Error::InvalidArgument("a kernel is (1 or 3, the same, inputs, outputs)");
  return ffi::Error::Success();
}

Input input_of(const Array& z, const Array& mean, const Array& factor, const Array& shift,
               const Array& skip) {
  return {z.typed_data(), maybe(mean), maybe(factor), maybe(shift), maybe(skip)};
}

ffi::Error forward(ffi::ThreadPool pool, int64_t stride, Array z, Array mean, Array factor,
                   Array shift, Array skip, Array kernel, Result out, Result x, Result out_mean,
                   Result out_variance, ffi::ResultBuffer<ffi::S32> inactive) {
  Geometry g;
  if (auto error = describe(z, kernel, stride, g); error.failure()) return error;
  const int64_t images = g.images * g.in_size();
  if (!matches(mean.element_count(), g.inputs) || factor.element_count() != mean.element_count() ||
      shift.element_count() != mean.element_count() || !matches(skip.element_count(), images) ||
      !matches(x->element_count(), images) || !matches(out_mean->element_count(), g.outputs) ||
      out->element_count() != static_cast<size_t>(g.images * g.out_size()))
    return ffi::Error::InvalidArgument("shapes do not belong together");
  implementation().forward({g, input_of(z, mean, factor, shift, skip), kernel.typed_data(),
                            maybe(x), out->typed_data(), maybe(out_mean), maybe(out_variance),
                            mean.element_count() ? inactive->typed_data() : nullptr},
                           on(pool));
  return ffi::Error::Success();
}

ffi::Error backward(ffi::ThreadPool pool, int64_t stride, Array z, Array mean, Array factor,
                    Array shift, Array kernel, Array x, Array out, Array out_gradient,
                    Array out_mean, Array mean_gradient, Array variance_gradient, Array x_gradient,
                    Result z_gradient, Result skip_gradient, Result factor_gradient,
                    Result shift_gradient, Result kernel_gradient, Result out_norm,
                    Result response_norm) {
  Geometry g;
  if (auto error = describe(z, kernel, stride, g); error.failure()) return error;
  const int64_t images = g.images * g.in_size(), outs = g.images * g.out_size();
  if (!matches(mean.element_count(), g.inputs) || !matches(x.element_count(), images) ||
      !matches(x_gradient.element_count(), images) || !matches(out.element_count(), outs) ||
      out_gradient.element_count() != static_cast<size_t>(outs) ||
      !matches(out_mean.element_count(), g.outputs))
    return ffi::Error::InvalidArgument("shapes do not belong together");
  const Input input{z.typed_data(), maybe(mean), maybe(factor), maybe(shift), nullptr};
  implementation().backward(
      {g, input, kernel.typed_data(), maybe(x), maybe(out), out_gradient.typed_data(),
       maybe(out_mean), maybe(mean_gradient), maybe(variance_gradient), maybe(x_gradient),
       maybe(z_gradient), maybe(skip_gradient), maybe(factor_gradient), maybe(shift_gradient),
       kernel_gradient->typed_data(), out_norm->typed_data(), response_norm->typed_data()},
      on(pool));
  return ffi::Error::Success();
}

// The geometry of pooling: one tap, as many outputs as inputs.
ffi::Error describe(const Array& z, const Array& mean, const Array& skip, const Array& pooled,
                    Geometry& g) {
  const auto size = z.dimensions();
  if (size.size() != 4) return ffi::Error::InvalidArgument("not four axes");
  g = {size[0], size[1], size[2], size[3], size[3], 1, 1, direct};
  if (static_cast<int64_t>(mean.element_count()) != g.inputs ||
      !matches(skip.element_count(), z.element_count()) ||
      static_cast<int64_t>(pooled.element_count()) != g.images * g.inputs)
    return ffi::Error::InvalidArgument("shapes do not belong together");
  return ffi::Error::Success();
}

ffi::Error pool(ffi::ThreadPool threads, Array z, Array mean, Array factor, Array shift,
                Array skip, Result pooled, ffi::ResultBuffer<ffi::S32> inactive) {
  Geometry g;
  if (auto error = describe(z, mean, skip, *pooled, g); error.failure()) return error;
  implementation().pool({g, input_of(z, mean, factor, shift, skip), pooled->typed_data(),
                         inactive->typed_data()},
                        on(threads));
  return ffi::Error::Success();
}

ffi::Error pool_backward(ffi::ThreadPool threads, Array z, Array mean, Array factor, Array shift,
                         Array skip, Array pooled_gradient, Result z_gradient,
                         Result skip_gradient, Result factor_gradient, Result shift_gradient,
                         Result response_norm) {
  Geometry g;
  if (auto error = describe(z, mean, skip, pooled_gradient, g); error.failure()) return error;
  implementation().pool_backward(
      {g, input_of(z, mean, factor, shift, skip), pooled_gradient.typed_data(),
       z_gradient->typed_data(), maybe(skip_gradient), factor_gradient->typed_data(),
       shift_gradient->typed_data(), response_norm->typed_data()},
      on(threads));
  return ffi::Error::Success();
}

// Arguments: n gradients, n velocities, n weights; results: n velocities, n weights, in place.
// numbers: five of each tensor, or empty.
ffi::Error descend(ffi::ThreadPool pool, float momentum, bool nesterov,
                   ffi::Span<const float> decay, ffi::Span<const float> scale, Scalar rate,
                   ffi::RemainingArgs from, Result numbers, ffi::RemainingRets to) {
  const size_t n = decay.size();
  float* const measured = maybe(numbers);
  if (scale.size() != n || from.size() != 3 * n || to.size() != 2 * n ||
      !matches(numbers->element_count(), 5 * n))
    return ffi::Error::InvalidArgument("as many tensors of each kind");
  const Descent shared{*rate.typed_data(), momentum, nesterov};
  std::atomic<bool> good{true};
  on(pool)(static_cast<int64_t>(n), [&](int64_t i) {
    static thread_local std::vector<float> scratch;
    const auto gradient = from.get<Array>(i), velocity = from.get<Array>(n + i);
    const auto weights = from.get<Array>(2 * n + i);
    auto new_velocity = to.get<Array>(i), new_weights = to.get<Array>(n + i);
    if (gradient.has_error() || velocity.has_error() || weights.has_error() ||
        new_velocity.has_error() || new_weights.has_error()) {
      good = false;
      return;
    }
    const size_t count = gradient->element_count();
    if (velocity->element_count() != count || weights->element_count() != count ||
        (*new_velocity)->element_count() != count || (*new_weights)->element_count() != count) {
      good = false;
      return;
    }
    implementation().descend(
        shared,
        {static_cast<int64_t>(count), decay[i], scale[i], gradient->typed_data(),
         velocity->typed_data(), weights->typed_data(), (*new_velocity)->typed_data(),
         (*new_weights)->typed_data(), measured ? measured + 5 * i : nullptr},
        scratch);
  });
  return good ? ffi::Error::Success()
              : ffi::Error::InvalidArgument("not float32, or of different sizes");
}

}  // namespace
}  // namespace resnet_study

#pragma GCC visibility push(default)

using resnet_study::Array;
using resnet_study::Scalar;

XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_study_forward, resnet_study::forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int64_t>("stride")
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<ffi::Buffer<ffi::S32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_study_backward, resnet_study::backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int64_t>("stride")
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_study_pool, resnet_study::pool,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<ffi::Buffer<ffi::S32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_study_pool_backward, resnet_study::pool_backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_study_descend, resnet_study::descend,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<float>("momentum")
                                  .Attr<bool>("nesterov")
                                  .Attr<ffi::Span<const float>>("decay")
                                  .Attr<ffi::Span<const float>>("scale")
                                  .Arg<Scalar>()
                                  .RemainingArgs()
                                  .Ret<Array>()
                                  .RemainingRets());

// Vector code in use; with a name, the one of that name from now on. NULL if this processor
// cannot run it or there is none of that name.
extern "C" const char* resnet_study_instructions(
    const char* name) {
  using namespace resnet_study;
  if (!name) return implementation().name;
  for (const Implementation* const* one = implementations(); *one; ++one)
    if (!std::strcmp((*one)->name, name) && runs_here(name)) {
      chosen = *one;
      return (*one)->name;
    }
  return nullptr;
}

// Whether layers that can be are computed by Winograd's algorithm; 0 or 1: from now on.
extern "C" int resnet_study_winograd(int allowed) {
  if (allowed >= 0) resnet_study::direct = !allowed;
  return !resnet_study::direct;
}

// The sources that this library was built from.
extern "C" const char* resnet_study_fingerprint() { return FINGERPRINT; }

#pragma GCC visibility pop
