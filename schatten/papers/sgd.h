#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/momentum.h>

namespace schatten {

struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  DecayForm decay = DecayForm::coupled;
  void fields(auto&& visit) {
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled (torch's), decoupled, after, cautious");
  }
};

/// SGD with momentum.
///   M <- mu M + (G + lambda W),   U = M  (nesterov: G + mu M)        [m, n]
/// State     momentum_buffer [m, n] when mu > 0, else nothing.
/// Locality  elementwise.
/// Source    torch.optim.SGD (dampening 0).
/// Checked   parity/sam_sgd, sam_adaptive_sgd, identity/sgd_equals_torch, law/*.
inline Recipe sgd(const SgdOptions& o) {
  const bool momentum = o.momentum != 0;
  if (o.nesterov && !momentum)
    fail_usage({"sgd", "momentum > 0 with nesterov = true", "momentum = 0", "Set momentum = 0.9."});
  return {.name = "sgd",
          .direction = momentum ? heavy_ball({.momentum = o.momentum, .nesterov = o.nesterov}) : identity(),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo sgd_info() {
  return recipe_row<SgdOptions>({.name = "sgd",
                                 .group = Group::elementwise,
                                 .summary = "stochastic gradient descent with momentum",
                                 .formula = "M <- mu M + G + lambda W;  W <- W - lr M",
                                 .paper = "torch.optim.SGD",
                                 .state = "mn (0 without momentum)",
                                 .tune = "lr (0.01 to 1), momentum"},
                                sgd);
}

}  // namespace schatten
