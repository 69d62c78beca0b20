// One weighted layer with what surrounds it, as plain C++: what the vector code of every
// instruction set implements and the XLA handlers call.
//
// Forward:  x = relu((z - mean) * factor + shift + skip),  out = convolution(x, kernel),
//           and the mean and biased variance of out per channel.
// Arrays are float32 in NHWC, kernels in HWIO; a convolution pads side / 2 zeros on each side.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace resnet_study {

struct Geometry {
  int64_t images, height, width, inputs, outputs, side, stride;
  bool direct;  // no convolution by Winograd's algorithm, for comparisons

  int64_t padding() const { return side / 2; }
  int64_t out_height() const { return (height + stride - 1) / stride; }
  int64_t out_width() const { return (width + stride - 1) / stride; }
  int64_t taps() const { return side * side; }
  int64_t in_size() const { return height * width * inputs; }
  int64_t out_size() const { return out_height() * out_width() * outputs; }
};

// The input of a layer. With mean == nullptr it is z itself; skip may be nullptr.
struct Input {
  const float* z;
  const float* mean;
  const float* factor;
  const float* shift;
  const float* skip;

  bool activated() const { return mean != nullptr; }
};

struct Forward {
  Geometry geometry;
  Input input;
  const float* kernel;
  float* x;          // the input after its activation, or nullptr
  float* out;
  float* mean;       // of out, or nullptr for no statistics
  float* variance;
  int32_t* inactive; // zeros of x, or nullptr
};

// Gradients: `out_gradient` is the one with respect to out alone; what flows through its mean
// and variance comes as one vector each.
struct Backward {
  Geometry geometry;
  Input input;
  const float* kernel;
  const float* x;                  // if the forward pass wrote it, else nullptr
  const float* out;                // with statistics, else nullptr
  const float* out_gradient;
  const float* mean;               // of out
  const float* mean_gradient;
  const float* variance_gradient;
  const float* x_gradient;         // what x gets from elsewhere, or nullptr
  float* z_gradient;               // or nullptr where nobody asks
  float* skip_gradient;            // also d loss / d (response of z), or nullptr
  float* factor_gradient;
  float* shift_gradient;
  float* kernel_gradient;
  float* out_norm;                 // Euclidean norm of the whole gradient with respect to out
  float* response_norm;            // of that with respect to (z - mean) * factor + shift
};

// The mean of x over the pixels of each image, (images, channels).
struct Pool {
  Geometry geometry;
  Input input;
  float* pooled;
  int32_t* inactive;
};

struct PoolBackward {
  Geometry geometry;
  Input input;
  const float* pooled_gradient;
  float* z_gradient;
  float* skip_gradient;  // or nullptr
  float* factor_gradient;
  float* shift_gradient;
  float* response_norm;
};

// One tensor's part of a step of gradient descent, and what all of them share.
struct Step {
  int64_t count;
  float decay, scale;  // of its weights; of its rate
  const float* gradient;
  const float* velocity;
  const float* weights;
  float* new_velocity;
  float* new_weights;
  float* measured;  // norms of gradient, weights and update, turn, cosine; or nullptr
};

struct Descent {
  float rate, momentum;
  bool nesterov;
};

// Calls body(0), ..., body(count - 1), in any order and on any threads, and waits for all.
using Parallel = std::function<void(int64_t count, const std::function<void(int64_t)>& body)>;

struct Implementation {
  const char* name;
  void (*descend)(const Descent&, const Step&, std::vector<float>& scratch);
  void (*forward)(const Forward&, const Parallel&);
  void (*backward)(const Backward&, const Parallel&);
  void (*pool)(const Pool&, const Parallel&);
  void (*pool_backward)(const PoolBackward&, const Parallel&);
};

}  // namespace resnet_study
