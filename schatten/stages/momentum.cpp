#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>

namespace schatten {

Stage ema(const Ema& o) {
  check_share("ema", "beta", o.beta);
  return o;
}

Tensor Ema::apply(const Tensor& u, State& s, const Step&) const {
  Tensor& m = s["momentum_buffer"];
  m.lerp_(u, 1 - beta);
  return nesterov ? u.lerp(m, beta) : m.clone();
}

Stage heavy_ball(const HeavyBall& o) {
  check_share("heavy_ball", "momentum", o.momentum);
  return o;
}

Tensor HeavyBall::apply(const Tensor& u, State& s, const Step&) const {
  Tensor& m = s["momentum_buffer"];
  m.mul_(momentum).add_(u);
  return nesterov ? u.add(m, momentum) : m.clone();
}

Stage momentum(MomentumForm form, double decay, bool nesterov) {
  if (form == MomentumForm::ema) return ema({.beta = decay, .nesterov = nesterov});
  return heavy_ball({.momentum = decay, .nesterov = nesterov});
}

}  // namespace schatten
