#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/lion.h>
#include <schatten/stages/masks.h>

namespace schatten {

struct LionOptions {
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "share of the buffer in the direction");
    visit("beta2", beta2, "decay of the buffer");
    visit("weight_decay", weight_decay, "lambda (three to ten times AdamW's)");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Lion: the sign of a mixture of momentum and gradient.
///   U  = sign(b1 M + (1 - b1) G),   sign(0) = 0              [m, n]
///   M <- b2 M + (1 - b2) G
///   W <- (1 - lr lambda) W - lr U
/// State     exp_avg [m, n].
/// Locality  elementwise.
/// Source    Chen et al. 2023, arXiv:2302.06675; code lucidrains/lion-pytorch@6a74fdc.
/// Checked   parity/lion_*, identity/lion_*, law/*.
inline Recipe lion(const LionOptions& o) {
  return {.name = "lion",
          .direction = chain({lion_momentum({.beta1 = o.beta1, .beta2 = o.beta2}), sign()}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_lion(const Value& h, ComputeDtype) {
  const LionOptions o{.beta1 = beta(h, 0), .beta2 = beta(h, 1), .weight_decay = h.real_or("weight_decay", 0)};
  return {.routes = {{"any", lion(o), 1.0}}};
}

inline RecipeInfo lion_info() {
  return recipe_row<LionOptions>(
      {.name = "lion",
       .group = Group::elementwise,
       .summary = "sign of a mixture of momentum and gradient",
       .formula = "U = sign(b1 M + (1 - b1) G);  M <- b2 M + (1 - b2) G;  W <- (1 - lr lambda) W - lr U",
       .paper = "Chen et al. 2023, arXiv:2302.06675; lucidrains/lion-pytorch",
       .state = "mn",
       .tune = "lr (a third to a tenth of AdamW's), weight_decay",
       .published = {{"Lion", replay_lion}}},
      lion);
}

}  // namespace schatten
