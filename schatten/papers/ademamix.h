#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/ademamix.h>

namespace schatten {

struct AdemamixOptions {
  double beta1 = 0.9, beta2 = 0.999, beta3 = 0.9999, alpha = 2, eps = 1e-8;
  int64_t alpha_warmup = 0, beta3_warmup = 0;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the fast average");
    visit("beta2", beta2, "decay of the second moment");
    visit("beta3", beta3, "decay of the slow average");
    visit("alpha", alpha, "weight of the slow average");
    visit("eps", eps, "added to the root");
    visit("alpha_warmup", alpha_warmup, "steps in which alpha grows from 0 (the paper: all of the run); 0: none");
    visit("beta3_warmup", beta3_warmup, "steps in which beta3 grows from beta1 (the paper: all of the run); 0: none");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// AdEMAMix: AdamW with a second, much slower average.
///   m1 <- b1 m1 + (1 - b1) G,  m2 <- b3 m2 + (1 - b3) G,  v <- b2 v + (1 - b2) G^2
///   U  = (m1 / (1 - b1^t) + alpha m2) / (sqrt(v^) + eps)     [m, n]
///   W <- (1 - lr lambda) W - lr U
/// alpha and b3 may be warmed up: linearly from 0, and from b1 in half-lives. See stages/ademamix.h.
/// State     exp_avg, exp_avg_slow, exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Pagliardini, Ablin and Grangier 2024, arXiv:2409.03137; code apple/ml-ademamix@c3d73c0.
/// Checked   parity/ademamix_*, identity/ademamix_*, law/*.
inline Recipe ademamix(const AdemamixOptions& o) {
  return {.name = "ademamix",
          .direction = scale_by_ademamix({.beta1 = o.beta1,
                                          .beta2 = o.beta2,
                                          .beta3 = o.beta3,
                                          .alpha = o.alpha,
                                          .eps = o.eps,
                                          .alpha_warmup = o.alpha_warmup,
                                          .beta3_warmup = o.beta3_warmup}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_ademamix(const Value& h, ComputeDtype) {
  const AdemamixOptions o{.beta1 = beta(h, 0),
                          .beta2 = beta(h, 1),
                          .beta3 = beta(h, 2),
                          .alpha = real(h, "alpha"),
                          .eps = h.real_or("eps", 1e-8),
                          .alpha_warmup = h.integer_or("alpha_warmup", 0),
                          .beta3_warmup = h.integer_or("beta3_warmup", 0),
                          .weight_decay = h.real_or("weight_decay", 0)};
  return {.routes = {{"any", ademamix(o), 1.0}}, .slots = {{"m1", "exp_avg"}, {"m2", "exp_avg_slow"}}};
}

inline RecipeInfo ademamix_info() {
  return recipe_row<AdemamixOptions>(
      {.name = "ademamix",
       .group = Group::elementwise,
       .summary = "AdamW with a second, much slower average",
       .formula = "U = (m1^ + alpha m2) / (sqrt(v^) + eps);  W <- (1 - lr lambda) W - lr U",
       .paper = "Pagliardini, Ablin and Grangier 2024, arXiv:2409.03137 (apple/ml-ademamix)",
       .state = "3mn",
       .tune = "lr (AdamW's), alpha (2 to 8), beta3, warm-ups as long as the run",
       .published = {{"AdEMAMix", replay_ademamix}}},
      ademamix);
}

}  // namespace schatten
