#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <schatten/parameters/decay.h>

#include <cmath>

namespace schatten {

Decay make_decay(DecayForm form, double weight_decay) {
  if (!std::isfinite(weight_decay) || weight_decay < 0)
    fail_usage({"decay", "weight_decay finite and >= 0", to_json(Value(weight_decay)), ""});
  return {weight_decay == 0 ? DecayForm::none : form, weight_decay};
}
Decay decoupled(double weight_decay) { return make_decay(DecayForm::decoupled, weight_decay); }
Decay coupled(double weight_decay) { return make_decay(DecayForm::coupled, weight_decay); }
Decay cautious(double weight_decay) { return make_decay(DecayForm::cautious, weight_decay); }

Tensor Decay::gradient(const Tensor& grad, const Tensor& param) const {
  if (form != DecayForm::coupled || !active()) return grad;
  return grad.add(param.to(grad.scalar_type()), weight_decay);
}

void Decay::apply(Tensor& param, const Tensor& update, double lr) const {
  if (!active()) return;
  // A wrapped number multiplies in float and rounds once; Tensor::mul_(Scalar) rounds the factor to bfloat16 first.
  if (form == DecayForm::decoupled) param.mul_(at::native::wrapped_scalar_tensor(1 - lr * weight_decay));
  if (form == DecayForm::cautious) param.sub_(param.mul(update.mul(param).ge(0)), lr * weight_decay);
}

}  // namespace schatten
