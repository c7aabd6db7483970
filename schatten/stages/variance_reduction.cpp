#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/variance_reduction.h>

namespace schatten {

Stage variance_reduction(const VarianceReduction& o) {
  check_share("variance_reduction", "beta1", o.beta1);
  check_non_negative("variance_reduction", "gamma", o.gamma);
  check_non_negative("variance_reduction", "max_norm", o.max_norm);
  return o;
}

Tensor VarianceReduction::apply(const Tensor& u, State& s, const Step&) const {
  Tensor& previous = s["previous_grad"];
  Tensor corrected = u.add(u.sub(previous), gamma * beta1 / (1 - beta1));
  previous.copy_(u);
  if (max_norm == 0) return corrected;
  // In float64: squares of large float32 entries overflow.
  const Tensor norm = at::linalg_vector_norm(corrected, 2, at::IntArrayRef({-2, -1}), true, at::kDouble);
  return corrected.mul_(norm.reciprocal().mul_(max_norm).clamp_max_(1).to(u.scalar_type()));
}

}  // namespace schatten
