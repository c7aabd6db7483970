#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/fira.h>
#include <schatten/stages/in_eigenbasis.h>

namespace schatten {

struct FiraOptions {
  SubspaceAndResidual subspace{};
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  DecayForm decay = DecayForm::after;
  void fields(auto&& visit) {
    subspace.fields(visit);
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the uncorrected root");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "after, decoupled, coupled, cautious");
  }
};

/// Fira: GaLore's AdamW, and the gradient's rest at the size that Adam gives the subspace.
///   every T steps  P = r leading left (wide) or right (tall) singular vectors of G          [m, r] or [n, r]
///   R = P^T G,  N = m / (sqrt(v) + eps),  m, v Adam's moments of R                          [r, n] (tall: [m, r])
///   S = (G - P R) a,  a_j = |N_j| / (|R_j| + 1e-8), its norm growing by at most 1 % a step
///   W <- W - lr sqrt(1 - b2^t) / (1 - b1^t) (alpha P N + S),  then  W <- (1 - lr lambda) W
/// State     P, exp_avg, exp_avg_sq [r, n], norm.
/// Locality  matrix; every T steps the directions are sought, as in_subspace says.
/// Source    Chen et al. 2024, arXiv:2410.01623, code xichen-fy/Fira@5c28b13.
/// Differs   the code subtracts alpha P R (`residual_released = true`); a zero first residual does not freeze it
///           (`limiter_released = true`).
/// Checked   identity/fira_*, law/*.
inline Recipe fira(const FiraOptions& o) {
  return {.name = "fira",
          .direction = chain(
              {subspace_and_residual(
                   o.subspace,
                   scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = AdamForm::uncorrected})),
               adam_correction({.beta1 = o.beta1, .beta2 = o.beta2})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo fira_info() {
  return recipe_row<FiraOptions>({.name = "fira",
                                  .group = Group::low_rank,
                                  .summary = "GaLore's AdamW plus the rest of the gradient, scaled alike",
                                  .formula = "U = alpha P N + (G - P P^T G) |N_j| / |R_j|,  N = Adam(R),  R = P^T G",
                                  .paper = "Fira, arXiv:2410.01623 (xichen-fy/Fira)",
                                  .state = "mr + 2rn + 1",
                                  .tune = "lr (0.01), rank (1/4 of the side), scale (0.25; 0.0625 for 1B and more)"},
                                 fira);
}

}  // namespace schatten
