#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <schatten/core/shape_scale.h>
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
Decay cautious_decay(double weight_decay) { return make_decay(DecayForm::cautious, weight_decay); }

namespace {

// A wrapped number multiplies in float and rounds once; Tensor::mul_(Scalar) rounds the factor to bfloat16 first.
void shrink(Tensor& param, double by) { param.mul_(at::native::wrapped_scalar_tensor(1 - by)); }

void shrink_where_agreed(Tensor& param, const Tensor& update, double by) {
  param.sub_(param.mul(update.mul(param).ge(0)), by);
}

}  // namespace

Tensor Decay::gradient(const Tensor& grad, const Tensor& param) const {
  if (form != DecayForm::coupled || !active()) return grad;
  return grad.add(param.to(grad.scalar_type()), weight_decay);
}

void Decay::before(Tensor& param, const Tensor& update, double lr, const ParameterInfo& info) const {
  if (!active()) return;
  if (form == DecayForm::decoupled) shrink(param, lr * weight_decay);
  if (form == DecayForm::cautious) shrink_where_agreed(param, update, lr * weight_decay);
  if (form == DecayForm::cautious_squared)
    shrink_where_agreed(param, update, lr * lr * shape_factor(ShapeScale::jordan, info) * weight_decay);
}

void Decay::after(Tensor& param, double lr) const {
  if (active() && form == DecayForm::after) shrink(param, lr * weight_decay);
}

}  // namespace schatten
