#include "nn/parameters.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"

namespace quench {
namespace {

uint64_t name_key(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

at::Tensor orthogonal(int64_t rows, int64_t columns, const at::Generator& generator) {
  if (rows < columns) return orthogonal(columns, rows, generator).t();
  const auto [q, r] = at::linalg_qr(at::randn({rows, columns}, generator, at::dtype(at::kDouble)));
  return q * r.diagonal().sign();
}

void draw(at::Tensor& out, const Init& init, uint64_t key) {
  at::Generator generator = at::detail::createCPUGenerator(key);
  switch (init.kind) {
    case Init::Kind::kConstant:
      out.fill_(init.value);
      break;
    case Init::Kind::kNormal:
      out.normal_(0, init.value, generator);
      break;
    case Init::Kind::kUniform:
      out.uniform_(-init.value, init.value, generator);
      break;
    case Init::Kind::kOrthogonal:
      out.copy_(orthogonal(out.size(0), out.size(1), generator));
      break;
  }
}

}  // namespace

at::Tensor Parameter::view(const Part& part, const at::Tensor& tensor) const {
  if (parts.size() == 1) return tensor.view(part.shape);
  return tensor.narrow(0, part.begin, part.rows).view(part.shape);
}

at::Tensor tapped(const Parameter& parameter, const Taps& taps) {
  if (!taps.replaces_weights()) return parameter.value;
  if (parameter.parts.size() == 1) return taps.weight(parameter.parts[0].name, parameter.value);
  std::vector<at::Tensor> parts;
  for (const Parameter::Part& part : parameter.parts)
    parts.push_back(taps.weight(part.name, parameter.value.narrow(0, part.begin, part.rows)));
  return at::cat(parts);
}

Parameter& Parameters::add(const std::string& name, std::vector<int64_t> shape, Init init,
                           Role role) {
  return add_stacked({name}, shape, shape, init, role);
}

Parameter& Parameters::add_stacked(const std::vector<std::string>& names,
                                   std::vector<int64_t> part_shape, std::vector<int64_t> shape,
                                   Init init, Role role) {
  Parameter& parameter = all_.emplace_back();
  parameter.role = role;
  parameter.value = at::empty(shape);
  const int64_t rows = shape.empty() ? 0 : shape[0] / static_cast<int64_t>(names.size());
  for (size_t i = 0; i < names.size(); ++i)
    parameter.parts.push_back({names[i], part_shape, static_cast<int64_t>(i) * rows, rows, init});
  return parameter;
}

void Parameters::initialize(uint64_t seed) {
  std::vector<std::string> names;
  for (const auto& [name, value] : named_values()) names.push_back(name);
  initialize(seed, names);
}

void Parameters::initialize(uint64_t seed, const std::vector<std::string>& names) {
  at::NoGradGuard no_grad;
  const std::set<std::string> drawn(names.begin(), names.end());
  for (Parameter& parameter : all_) {
    for (const Parameter::Part& part : parameter.parts) {
      if (!drawn.contains(part.name)) continue;
      at::Tensor view = parameter.view(part, parameter.value);
      draw(view, part.init, mix(seed ^ mix(name_key(part.name))));
      if (parameter.zero_row >= 0) parameter.value[parameter.zero_row].zero_();
    }
  }
}

void Parameters::to(at::Device device, at::ScalarType dtype) {
  for (Parameter& parameter : all_)
    parameter.value = parameter.value.detach().to(device, dtype).requires_grad_();
}

std::vector<Parameter*> Parameters::pointers() {
  std::vector<Parameter*> pointers;
  for (Parameter& parameter : all_) pointers.push_back(&parameter);
  return pointers;
}

std::vector<at::Tensor> Parameters::values() const {
  std::vector<at::Tensor> values;
  for (const Parameter& parameter : all_) values.push_back(parameter.value);
  return values;
}

int64_t Parameters::count() const {
  int64_t count = 0;
  for (const Parameter& parameter : all_) count += parameter.value.numel();
  return count;
}

std::vector<std::pair<std::string, at::Tensor>> Parameters::named_values() const {
  std::vector<std::pair<std::string, at::Tensor>> named;
  for (const Parameter& parameter : all_)
    for (const Parameter::Part& part : parameter.parts)
      named.emplace_back(part.name, parameter.view(part, parameter.value.detach()));
  return named;
}

std::vector<std::pair<std::string, at::Tensor>> Parameters::named_gradients() const {
  std::vector<std::pair<std::string, at::Tensor>> named;
  for (const Parameter& parameter : all_) {
    const at::Tensor& gradient = parameter.value.grad();
    const at::Tensor whole = gradient.defined() ? gradient : at::zeros_like(parameter.value);
    for (const Parameter::Part& part : parameter.parts)
      named.emplace_back(part.name, parameter.view(part, whole));
  }
  return named;
}

NameDifference compare_names(const Parameters& parameters,
                             const std::map<std::string, at::Tensor>& tensors) {
  NameDifference difference;
  std::set<std::string> known;
  for (const Parameter& parameter : parameters.all()) {
    for (const Parameter::Part& part : parameter.parts) {
      known.insert(part.name);
      if (!tensors.contains(part.name)) difference.missing.push_back(part.name);
    }
  }
  for (const auto& [name, tensor] : tensors)
    if (!known.contains(name)) difference.unexpected.push_back(name);
  return difference;
}

NameDifference load_values(Parameters& parameters, const std::map<std::string, at::Tensor>& tensors,
                           bool allow_partial) {
  at::NoGradGuard no_grad;
  const NameDifference difference = compare_names(parameters, tensors);
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  std::vector<std::string> misshapen, integers;
  for (Parameter& parameter : parameters.all()) {
    for (const Parameter::Part& part : parameter.parts) {
      const auto found = tensors.find(part.name);
      if (found == tensors.end()) continue;
      copies.emplace_back(parameter.view(part, parameter.value), found->second);
      if (!found->second.is_floating_point()) integers.push_back(part.name);
      if (found->second.sizes() != at::IntArrayRef(part.shape))
        misshapen.push_back(concat(part.name, " (expected ", at::IntArrayRef(part.shape), ", got ",
                                   found->second.sizes(), ")"));
    }
  }
  check(misshapen.empty(), "parameters of another shape: ", listed(misshapen, 8));
  check(integers.empty(), "expected floating-point numbers, got integers: ", listed(integers, 8));
  if (!allow_partial) {
    check(difference.missing.empty(),
          "parameters missing from the checkpoint: ", listed(difference.missing, 8));
    check(difference.unexpected.empty(),
          "parameters in the checkpoint that the model does not have: ",
          listed(difference.unexpected, 8));
  }
  for (auto& [value, tensor] : copies) value.copy_(tensor);
  return difference;
}

}  // namespace quench
