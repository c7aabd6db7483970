#pragma once
#include <schatten/linalg/power_law.h>
#include <schatten/papers/adamw.h>
#include <schatten/parameters/alpha_decay.h>

namespace schatten {

struct AlphaDecayControl {
  int every = 500;
  AlphaDecayOptions assign{};
  PowerLawOptions fit{};
  void fields(auto&& visit) {
    visit("every", every, "steps between two looks at the spectra");
    visit("assign", assign, "from alphas to decays: map, low, high, skip_first, skip_last, minimum_eigenvalues");
    visit("fit", fit, "of alpha: start, minimum, above");
  }
};
/// Every k-th step: lambda_i of each matrix from the power-law exponent alpha_i of its spectrum; the optimizer keeps
/// them until the next look. Modules are hidden matrices and the head, in the model's order; `skip_last` drops the head
/// where it is among them.
Controller alpha_decay_control(const AlphaDecayControl& options);

struct AlphaDecayRecipeOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.1;
  AlphaDecayControl alpha{};
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the root");
    visit("weight_decay", weight_decay, "lambda that the assignment starts from, > 0");
    visit("alpha", alpha, "the controller: every, assign, fit");
  }
};

/// AlphaDecay: AdamW whose weight decay follows each layer's spectrum.
///   alpha_i: power law in the eigenvalues of W_i^T W_i;  lambda_i = linear map of [min alpha, max alpha] to [low, high] lambda
///   W_i <- (1 - lr lambda_i) W_i - lr U_i,  U as AdamW's                                  [m, n]
/// Heavier tails (small alpha) are decayed less. The controller works on any recipe with a decay:
/// `controllers = [{ controller = "alpha_decay" }]`.
/// State     AdamW's, and one number per matrix.
/// Locality  elementwise; spectra (one SVD per matrix) every 500 steps.
/// Source    He et al. 2025, arXiv:2506.14562, code hed-ucas/AlphaDecay@23ce27c.
/// Differs   where all alphas are equal every module keeps lambda (the code: high lambda).
/// Checked   parameters/alpha_decay_test (the authors' numbers), identity/alpha_decay_*, law/*.
inline Recipe alpha_decay(const AlphaDecayRecipeOptions& o) {
  Recipe recipe = adamw({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .weight_decay = o.weight_decay});
  recipe.name = "alpha_decay";
  recipe.controllers = {alpha_decay_control(o.alpha)};
  return recipe;
}

inline RecipeInfo alpha_decay_info() {
  return recipe_row<AlphaDecayRecipeOptions>(
      {.name = "alpha_decay",
       .group = Group::layerwise,
       .summary = "AdamW with a decay of its own per matrix, from its spectrum's power law",
       .formula = "lambda_i = linear map of alpha_i to [low, high] lambda;  W <- (1 - lr lambda_i) W - lr U",
       .paper = "AlphaDecay, arXiv:2506.14562 (hed-ucas/AlphaDecay)",
       .state = "2mn (+ 1)",
       .tune = "lr, weight_decay as AdamW's; low and high 2/3 to 3 (5 for AdamW in the paper)"},
      alpha_decay);
}

}  // namespace schatten
