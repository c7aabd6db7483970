#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/normalize_variance.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

bool is_flattened_conv(const ParameterInfo& p, int64_t rows, int64_t cols) {
  return p.shape.size() == 4 && p.rows() == rows && p.cols() == cols;
}

/// The released NorMuon codes see [out, in] kernels of their own.
bool by_kernel(const NormalizeVariance& o, const ParameterInfo& p, int64_t rows, int64_t cols) {
  return o.released_conv && o.of == VarianceOf::rows && is_flattened_conv(p, rows, cols);
}

std::vector<int64_t> with_kernel_dims(const Tensor& u, const ParameterInfo& p) {
  std::vector<int64_t> shape(u.sizes().begin(), u.sizes().end() - 2);
  shape.insert(shape.end(), p.shape.begin(), p.shape.end());
  return shape;
}

double counted_entries(const NormalizeVariance& o, const ParameterInfo& p, const Tensor& u) {
  const int64_t rows = u.size(-2), cols = u.size(-1);
  if (!o.released_conv || !is_flattened_conv(p, rows, cols)) return static_cast<double>(rows * cols);
  const auto [low, high] = std::minmax_element(p.shape.begin(), p.shape.end());
  return static_cast<double>(*low * *high);
}

Tensor mean_squares(const Tensor& x, VarianceOf of) {
  if (of == VarianceOf::entries) return x.square();
  const bool columns = of == VarianceOf::longer && x.size(-2) < x.size(-1);
  return x.square().mean(columns ? -2 : -1, true);
}

Tensor root_of(const Tensor& v, double eps, VarianceEps form) {
  switch (form) {
    case VarianceEps::root: return v.sqrt().add_(eps);
    case VarianceEps::inside: return v.add(eps).sqrt_();
    case VarianceEps::floor: break;
  }
  return v.clamp_min(eps).sqrt_();
}

Tensor frobenius(const Tensor& x) { return at::linalg_vector_norm(x, 2, at::IntArrayRef({-2, -1}), true); }

}  // namespace

Stage normalize_variance(const NormalizeVariance& o) {
  check_share("normalize_variance", "beta2", o.beta2);
  check_positive("normalize_variance", "eps", o.eps);
  check_positive("normalize_variance", "rms", o.rms);
  check_positive("normalize_variance", "size_eps", o.size_eps);
  return o;
}

StateSpec NormalizeVariance::state(const Bucket& b) const {
  SlotSpec v{.name = "exp_avg_sq", .dtype = at_least_float32(b.dtype), .follows = Follows::permutation};
  const bool columns = of == VarianceOf::longer && b.rows < b.cols;
  if (by_kernel(*this, *b.parameter, b.rows, b.cols))
    v.shape = {b.parameter->shape[0], b.parameter->shape[1], b.parameter->shape[2], 1};
  else if (of != VarianceOf::entries)
    v.shape = columns ? std::vector<int64_t>{1, b.cols} : std::vector<int64_t>{b.rows, 1};
  return {.name = name(), .slots = {v}};
}

Tensor NormalizeVariance::apply(const Tensor& u, State& s, const Step& step) const {
  Tensor& v = s["exp_avg_sq"];
  Tensor x = u.to(v.scalar_type());
  if (by_kernel(*this, step.parameter, u.size(-2), u.size(-1))) x = x.reshape(with_kernel_dims(u, step.parameter));
  v.lerp_(mean_squares(x, of), 1 - beta2);
  const Tensor y = x.div(root_of(v, eps, eps_form));
  const Tensor norm = frobenius(y);
  const Tensor divisor = size_eps_mode == EpsMode::add ? norm.add(size_eps) : norm.clamp_min(size_eps);
  const Tensor scaled =
      size == UpdateSize::keep
          ? y.mul(frobenius(x).div_(divisor))
          : y.mul(divisor.reciprocal().mul_(rms * std::sqrt(counted_entries(*this, step.parameter, u))));
  return scaled.reshape(u.sizes()).to(u.scalar_type());
}

}  // namespace schatten
