#include <ATen/ATen.h>
#include <schatten/stages/ademamix.h>
#include <schatten/stages/checks.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

constexpr double kHalfLifeEps = 1e-8;  // the authors'; at b = 0.9999 it moves f(b) by 1e-4

/// Steps until an average has forgotten half, less one.
double half_life(double beta) { return std::log(0.5) / std::log(beta + kHalfLifeEps) - 1; }
double beta_of(double half_life) { return std::pow(0.5, 1 / (half_life + 1)); }

/// Share of a warm-up that step t has done; 1 without one.
double progress(int64_t step, int64_t warmup) {
  return step < warmup ? static_cast<double>(step) / static_cast<double>(warmup) : 1;
}

double slow_beta(const ScaleByAdemamix& o, int64_t step) {
  const double done = progress(step, o.beta3_warmup);
  return done == 1 ? o.beta3 : beta_of((1 - done) * half_life(o.beta1) + done * half_life(o.beta3));
}

void check_warmup(std::string_view key, int64_t steps) {
  if (steps < 0)
    fail_usage({"scale_by_ademamix", std::string(key) + " >= 0", std::to_string(steps), "0 means no warm-up."});
}

}  // namespace

Stage scale_by_ademamix(const ScaleByAdemamix& o) {
  check_share("scale_by_ademamix", "beta1", o.beta1);
  check_share("scale_by_ademamix", "beta2", o.beta2);
  check_share("scale_by_ademamix", "beta3", o.beta3);
  check_non_negative("scale_by_ademamix", "alpha", o.alpha);
  check_non_negative("scale_by_ademamix", "eps", o.eps);
  check_warmup("alpha_warmup", o.alpha_warmup);
  check_warmup("beta3_warmup", o.beta3_warmup);
  if (o.beta3_warmup > 0 && std::max(o.beta1, o.beta3) + kHalfLifeEps >= 1)
    fail_usage({"scale_by_ademamix", "beta1 and beta3 < 1 - 1e-8 with beta3_warmup", "nearer to 1",
                "A half-life that long cannot be interpolated: set beta3_warmup = 0."});
  return o;
}

Tensor ScaleByAdemamix::apply(const Tensor& u, State& s, const Step& step) const {
  Tensor &fast = s["exp_avg"], &slow = s["exp_avg_slow"], &v = s["exp_avg_sq"];
  fast.lerp_(u, 1 - beta1);
  slow.lerp_(u, 1 - slow_beta(*this, step.step));
  v.mul_(beta2).addcmul_(u, u, 1 - beta2);
  const auto t = static_cast<double>(step.step);
  const Tensor root = v.sqrt().div_(std::sqrt(1 - std::pow(beta2, t))).add_(eps);
  const double weight = alpha * progress(step.step, alpha_warmup);
  return fast.div(1 - std::pow(beta1, t)).add_(slow, weight).div_(root);
}

}  // namespace schatten
