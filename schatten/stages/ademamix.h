// AdEMAMix: Adam with a second, much slower average of the gradient.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// AdEMAMix's direction.
///   m1 <- b1 m1 + (1 - b1) G,  m2 <- b3(t) m2 + (1 - b3(t)) G,  v <- b2 v + (1 - b2) G^2
///   U   = (m1 / (1 - b1^t) + alpha(t) m2) / (sqrt(v) / sqrt(1 - b2^t) + eps)        [.., m, n]
///   alpha(t) = alpha min(1, t / alpha_warmup)
///   b3(t)    from b1 to b3 within beta3_warmup steps, linear in the half-life f(b) = ln(1/2) / ln(b + 1e-8) - 1
/// The slow average is not bias-corrected: it fades in by itself.
/// State     exp_avg, exp_avg_slow, exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Pagliardini, Ablin and Grangier 2024, arXiv:2409.03137; code apple/ml-ademamix@c3d73c0.
/// Checked   parity/ademamix_*, identity/ademamix_*, law/*.
struct ScaleByAdemamix {
  double beta1 = 0.9, beta2 = 0.999, beta3 = 0.9999, alpha = 2, eps = 1e-8;
  int64_t alpha_warmup = 0, beta3_warmup = 0;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the fast average, in [0, 1)");
    visit("beta2", beta2, "decay of the second moment, in [0, 1)");
    visit("beta3", beta3, "decay of the slow average, in [0, 1)");
    visit("alpha", alpha, "weight of the slow average");
    visit("eps", eps, "added to the root");
    visit("alpha_warmup", alpha_warmup, "steps in which alpha grows from 0; 0: none");
    visit("beta3_warmup", beta3_warmup, "steps in which beta3 grows from beta1; 0: none");
  }
  std::string name() const { return "scale_by_ademamix"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const {
    return {.name = name(),
            .slots = {{"exp_avg"}, {"exp_avg_slow"}, {.name = "exp_avg_sq", .follows = Follows::permutation}}};
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_ademamix(const ScaleByAdemamix& options);

}  // namespace schatten
