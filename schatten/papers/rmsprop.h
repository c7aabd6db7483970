#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/momentum.h>

namespace schatten {

struct RmspropOptions {
  double alpha = 0.99, eps = 1e-8, momentum = 0, weight_decay = 0;
  DecayForm decay = DecayForm::coupled;
  void fields(auto&& visit) {
    visit("alpha", alpha, "decay of the mean square, in [0, 1)");
    visit("eps", eps, "added to the root");
    visit("momentum", momentum, "mu in [0, 1), of the scaled gradients");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled (torch's), decoupled, after, cautious");
  }
};

/// RMSprop: the gradient over the root of its running mean square.
///   v <- a v + (1 - a) G^2,   Y = G / (sqrt(v) + eps)               [m, n]
///   M <- mu M + Y,  U = M  (mu = 0: U = Y)
/// State     exp_avg_sq [m, n]; momentum_buffer [m, n] when mu > 0.
/// Locality  elementwise.
/// Source    Tieleman and Hinton 2012 (lecture 6.5); torch.optim.RMSprop.
/// Differs   no centred form.
/// Checked   parity/torch_rmsprop, law/*.
inline Recipe rmsprop(const RmspropOptions& o) {
  Stage direction = scale_by_adam({.beta1 = 0, .beta2 = o.alpha, .eps = o.eps, .form = AdamForm::uncorrected});
  if (o.momentum != 0) direction = chain({std::move(direction), heavy_ball({.momentum = o.momentum})});
  return {.name = "rmsprop", .direction = std::move(direction), .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_rmsprop(const Value& h, ComputeDtype) {
  const RmspropOptions o{.alpha = real(h, "alpha"),
                         .eps = real(h, "eps"),
                         .momentum = h.real_or("momentum", 0),
                         .weight_decay = h.real_or("weight_decay", 0)};
  return {.routes = {{"any", rmsprop(o), 1.0}}};
}

inline RecipeInfo rmsprop_info() {
  return recipe_row<RmspropOptions>({.name = "rmsprop",
                                     .group = Group::elementwise,
                                     .summary = "the gradient over the root of its running mean square",
                                     .formula = "v <- a v + (1 - a) G^2;  U = G / (sqrt(v) + eps)",
                                     .paper = "Tieleman and Hinton 2012, lecture 6.5; torch.optim.RMSprop",
                                     .state = "mn (2mn with momentum)",
                                     .tune = "lr (3e-4 to 1e-2)",
                                     .published = {{"torch.optim.RMSprop", replay_rmsprop}}},
                                    rmsprop);
}

}  // namespace schatten
