// The trainable tensors of a model, under their Hugging Face names. One tensor may hold several
// named parameters stacked along dimension 0 (query, key and value; the gates of all heads), so
// that they run as one product.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "taps/taps.h"

namespace quench {

// Distribution of fresh values. Every parameter draws from its own stream, a function of (seed,
// name).
struct Init {
  enum class Kind { kConstant, kNormal, kUniform, kOrthogonal } kind = Kind::kConstant;
  double value = 0;  // the constant, the standard deviation, or the bound of U(-bound, bound)

  static Init constant(double value) { return {Kind::kConstant, value}; }
  static Init normal(double standard_deviation) { return {Kind::kNormal, standard_deviation}; }
  static Init uniform(double bound) { return {Kind::kUniform, bound}; }
  // Of a matrix: the Q of a normal one's QR, its signs chosen so that all Q are equally likely.
  static Init orthogonal() { return {Kind::kOrthogonal, 0}; }
  // As torch.nn.Linear leaves weights and biases: U(+-1/sqrt(fan_in)) (SPEC 3.3).
  static Init torch_linear(int64_t fan_in) {
    return uniform(1 / std::sqrt(static_cast<double>(fan_in)));
  }
};

// What a parameter is for: decides on its weight decay, and which optimizer takes it.
enum class Role {
  kMatrix,     // of a product inside the model, [out, in]
  kEmbedding,  // turns the input into vectors: a table of rows, patches
  kHead,       // of the products that turn vectors into the output
  kNorm,       // gain of a normalization
  kBias,
  kGate,   // what closes a head, beside its bias
  kToken,  // a vector or number that stands beside what the data gives: [CLS], positions, sinks
};

struct Parameter {
  struct Part {
    std::string name;
    std::vector<int64_t> shape;
    int64_t begin = 0;  // first row in `value`
    int64_t rows = 0;
    Init init;
  };

  at::Tensor value;  // leaf; float32 master copy
  std::vector<Part> parts;
  int64_t zero_row = -1;  // padding row of an embedding: 0 at initialization
  Role role = Role::kMatrix;

  // The part's own view into `tensor`, which has the shape of `value` (the value itself, its
  // gradient, ...).
  at::Tensor view(const Part& part, const at::Tensor& tensor) const;
};

// The value as its user sees it: each part passes through its weight tap.
at::Tensor tapped(const Parameter& parameter, const Taps& taps);

class Parameters {
 public:
  Parameters() = default;
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  // Allocated, not drawn. Names must be unique: values are drawn, saved and loaded by them. The
  // reference stays valid.
  Parameter& add(const std::string& name, std::vector<int64_t> shape, Init init,
                 Role role = Role::kMatrix);
  // Stacks equal parts of `part_shape`; the whole has the shape `shape`.
  Parameter& add_stacked(const std::vector<std::string>& names, std::vector<int64_t> part_shape,
                         std::vector<int64_t> shape, Init init, Role role = Role::kMatrix);

  // Draws every value afresh from (seed, name), or only those of the given names.
  void initialize(uint64_t seed);
  void initialize(uint64_t seed, const std::vector<std::string>& names);
  // Moves every value; afterwards gradients are tracked.
  void to(at::Device device, at::ScalarType dtype);

  std::deque<Parameter>& all() { return all_; }
  const std::deque<Parameter>& all() const { return all_; }
  std::vector<Parameter*> pointers();
  std::vector<at::Tensor> values() const;
  int64_t count() const;  // scalars

  // Name -> its view of the values, or of the gradients (zeros where there is none), in
  // registration order.
  std::vector<std::pair<std::string, at::Tensor>> named_values() const;
  std::vector<std::pair<std::string, at::Tensor>> named_gradients() const;

 private:
  std::deque<Parameter> all_;
};

struct NameDifference {
  std::vector<std::string> missing;     // parameters without a tensor, in registration order
  std::vector<std::string> unexpected;  // tensors without a parameter
};
NameDifference compare_names(const Parameters& parameters,
                             const std::map<std::string, at::Tensor>& tensors);

// Copies `tensors` into the parameters of the same names. Throws Error listing missing, unexpected
// and misshapen names; with `allow_partial` only misshapen ones are errors, and the values of the
// missing ones stay as they were.
NameDifference load_values(Parameters& parameters, const std::map<std::string, at::Tensor>& tensors,
                           bool allow_partial = false);

}  // namespace quench
