#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/sophia.h>

namespace schatten {

Stage scale_by_sophia(const ScaleBySophia& o) {
  check_share("scale_by_sophia", "beta1", o.beta1);
  check_share("scale_by_sophia", "beta2", o.beta2);
  check_positive("scale_by_sophia", "rho", o.rho);
  check_positive("scale_by_sophia", "bs", o.bs);
  if (o.probe_every < 1)
    fail_usage({"scale_by_sophia", "probe_every >= 1", std::to_string(o.probe_every), "10 is the published one."});
  return o;
}

Tensor ScaleBySophia::apply(const Tensor& u, State& s, const Step&) const {
  Tensor& m = s["exp_avg"];
  m.lerp_(u, 1 - beta1);
  const bool squares = estimator == SophiaEstimator::gauss_newton;  // never negative
  const Tensor curvature = squares ? s["hessian"].mul(rho * bs) : s["hessian"].clamp_min(0).mul_(rho);
  return m.div(curvature.add(1e-15)).clamp_(-1, 1);
}

void ScaleBySophia::probe(const Tensor& h, State& s, const Step&) const {
  Tensor& hessian = s["hessian"];
  hessian.mul_(beta2);
  if (estimator == SophiaEstimator::gauss_newton) hessian.addcmul_(h, h, 1 - beta2);
  else hessian.add_(h, 1 - beta2);
}

}  // namespace schatten
