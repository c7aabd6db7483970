#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/lion.h>

namespace schatten {

Stage lion_momentum(const LionMomentum& o) {
  check_share("lion_momentum", "beta1", o.beta1);
  check_share("lion_momentum", "beta2", o.beta2);
  return o;
}

Tensor LionMomentum::apply(const Tensor& u, State& s, const Step&) const {
  Tensor& m = s["exp_avg"];
  Tensor direction = u.lerp(m, beta1);
  m.lerp_(u, 1 - beta2);
  return direction;
}

}  // namespace schatten
