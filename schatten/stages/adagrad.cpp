#include <ATen/ATen.h>
#include <schatten/stages/adagrad.h>
#include <schatten/stages/checks.h>

namespace schatten {

Stage scale_by_adagrad(const ScaleByAdagrad& o) {
  check_non_negative("scale_by_adagrad", "eps", o.eps);
  check_non_negative("scale_by_adagrad", "initial_accumulator_value", o.initial_accumulator_value);
  check_non_negative("scale_by_adagrad", "lr_decay", o.lr_decay);
  return o;
}

Tensor ScaleByAdagrad::apply(const Tensor& u, State& s, const Step& step) const {
  Tensor& sum = s["sum"];
  if (step.step == 1) sum.fill_(initial_accumulator_value);
  sum.addcmul_(u, u);
  const Tensor scaled = u.div(sum.sqrt().add_(eps));
  return lr_decay == 0 ? scaled : scaled.div(1 + static_cast<double>(step.step - 1) * lr_decay);
}

}  // namespace schatten
