#include <schatten/papers/papers.h>
#include <schatten/stages/momentum.h>

namespace schatten {

/// SGD with momentum.
///   M <- mu M + (G + lambda W),   U = M  (nesterov: G + mu M)        [m, n]
/// State     momentum_buffer [m, n] when mu > 0, else nothing.
/// Locality  elementwise.
/// Source    torch.optim.SGD (dampening 0).
/// Checked   identity/sgd_equals_torch, law/*.
Recipe sgd(const SgdOptions& o) {
  const bool momentum = o.momentum != 0;
  if (o.nesterov && !momentum)
    fail_usage({"sgd", "momentum > 0 with nesterov = true", "momentum = 0", "Set momentum = 0.9."});
  return {.name = "sgd",
          .direction = momentum ? heavy_ball({.momentum = o.momentum, .nesterov = o.nesterov}) : identity(),
          .decay = make_decay(o.decay, o.weight_decay)};
}

RecipeInfo sgd_info() {
  return recipe_row<SgdOptions>({.name = "sgd",
                                 .summary = "stochastic gradient descent with momentum",
                                 .formula = "M <- mu M + G + lambda W;  W <- W - lr M",
                                 .paper = "torch.optim.SGD",
                                 .state = "mn (0 without momentum)"},
                                sgd);
}

}  // namespace schatten
