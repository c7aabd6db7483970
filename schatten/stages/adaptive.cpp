#include <ATen/ATen.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/checks.h>

#include <cmath>

namespace schatten {

Stage scale_by_adam(const ScaleByAdam& o) {
  check_share("scale_by_adam", "beta1", o.beta1);
  check_share("scale_by_adam", "beta2", o.beta2);
  check_non_negative("scale_by_adam", "eps", o.eps);
  return o;
}

Tensor ScaleByAdam::apply(const Tensor& u, State& s, const Step& step) const {
  const Tensor m = beta1 == 0 ? u : s["exp_avg"].lerp_(u, 1 - beta1);
  Tensor& v = s["exp_avg_sq"];
  v.mul_(beta2).addcmul_(u, u, 1 - beta2);
  if (form == AdamForm::uncorrected) return m.div(v.sqrt().add_(eps));
  const auto t = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(beta1, t);
  const double root_correction2 = std::sqrt(1 - std::pow(beta2, t));
  if (form == AdamForm::uncorrected_eps) return m.div(v.sqrt().add_(eps)).mul_(root_correction2 / correction1);
  return v.sqrt().div_(root_correction2).add_(eps).reciprocal_().mul_(m).div_(correction1);
}

}  // namespace schatten
