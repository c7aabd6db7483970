#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/parameters/sharpness.h>

#include <cmath>
#include <utility>

namespace schatten {

namespace {

/// Half types ascend in float32: rho of the whole model is less than their spacing for one entry.
Tensor working(const Tensor& x) { return x.to(at_least_float32(x.scalar_type())); }

void check(const std::vector<Tensor>& parameters, const std::vector<Tensor>& grads,
           const std::vector<SharpnessOptions>& options) {
  for (const auto& [rho, adaptive] : options)
    if (!std::isfinite(rho) || rho < 0)
      fail_usage({"sharpness", "rho finite and >= 0", to_json(Value(rho)), "Published: 0.05, adaptive 2."});
  if (parameters.size() != grads.size() || parameters.size() != options.size())
    fail_usage({"sharpness", "one gradient (or none) and one rho per parameter, " + std::to_string(parameters.size()),
                std::to_string(grads.size()) + " and " + std::to_string(options.size()), ""});
  for (size_t i = 0; i < grads.size(); ++i)
    if (grads[i].defined() && grads[i].sizes() != parameters[i].sizes())
      fail_usage(
          {"sharpness", c10::str("a gradient of shape ", parameters[i].sizes()), c10::str(grads[i].sizes()), ""});
}

/// Per tensor in float64, added in order: the same bits for any number of threads but those of the norm itself.
double joint_norm(const std::vector<Tensor>& tensors) {
  double squares = 0;
  for (const Tensor& t : tensors)
    if (t.defined()) squares += std::pow(at::linalg_vector_norm(t, 2, {}, false, at::kDouble).item<double>(), 2);
  return std::sqrt(squares);
}

std::vector<Tensor> gradients_of(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> grads;
  for (const Tensor& p : parameters) grads.push_back(p.grad());
  return grads;
}

}  // namespace

std::vector<Tensor> sharpness_ascent(const std::vector<Tensor>& parameters, const std::vector<Tensor>& grads,
                                     const SharpnessOptions& options) {
  return each_sharpness_ascent(parameters, grads, std::vector<SharpnessOptions>(parameters.size(), options));
}

std::vector<Tensor> each_sharpness_ascent(const std::vector<Tensor>& parameters, const std::vector<Tensor>& grads,
                                          const std::vector<SharpnessOptions>& options) {
  check(parameters, grads, options);
  const at::NoGradGuard no_grad;
  std::vector<Tensor> scaled(grads.size()), steps(grads.size());
  for (size_t i = 0; i < grads.size(); ++i) {
    if (!grads[i].defined()) continue;
    const Tensor g = working(grads[i].detach()), w = working(parameters[i].detach());
    scaled[i] = options[i].adaptive ? w.abs().mul_(g) : g;
    steps[i] = options[i].adaptive ? w.square().mul_(g) : g;
  }
  const double norm = joint_norm(scaled) + 1e-12;
  for (size_t i = 0; i < steps.size(); ++i)
    if (steps[i].defined()) steps[i] = steps[i].mul(options[i].rho / norm);
  return steps;
}

Perturbation::Perturbation(std::vector<Tensor> parameters, const SharpnessOptions& options)
    : parameters_(std::move(parameters)) {
  const at::NoGradGuard no_grad;
  const auto steps = sharpness_ascent(parameters_, gradients_of(parameters_), options);
  for (size_t i = 0; i < steps.size(); ++i)
    copies_.push_back(steps[i].defined() ? parameters_[i].detach().clone() : Tensor());
  for (size_t i = 0; i < steps.size(); ++i)
    if (steps[i].defined()) parameters_[i].add_(steps[i]);
}

void Perturbation::restore() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < copies_.size(); ++i)
    if (copies_[i].defined()) parameters_[i].copy_(copies_[i]);
  copies_.clear();
}

Perturbation::~Perturbation() {
  try {
    restore();
  } catch (...) {  // NOLINT: nothing may leave a destructor; a copy of equal shape and type does not throw
  }
}

}  // namespace schatten
