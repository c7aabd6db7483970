#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adagrad.h>

namespace schatten {

struct AdagradOptions {
  double eps = 1e-10, initial_accumulator_value = 0, lr_decay = 0, weight_decay = 0;
  DecayForm decay = DecayForm::coupled;
  void fields(auto&& visit) {
    visit("eps", eps, "added to the root");
    visit("initial_accumulator_value", initial_accumulator_value, "what the sum of squares starts from");
    visit("lr_decay", lr_decay, "the t-th update is divided by 1 + (t - 1) lr_decay");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled (torch's), decoupled, after, cautious");
  }
};

/// Adagrad: every entry over the root of the sum of its squares.
///   S <- S + G^2,   W <- W - lr / (1 + (t - 1) lr_decay) G / (sqrt(S) + eps),   G with lambda W added   [m, n]
/// State     sum [m, n].
/// Locality  elementwise.
/// Source    Duchi, Hazan and Singer 2011; torch.optim.Adagrad.
/// Checked   parity/torch_adagrad_*, identity/adagrad_equals_torch, law/*.
inline Recipe adagrad(const AdagradOptions& o) {
  return {.name = "adagrad",
          .direction = scale_by_adagrad(
              {.eps = o.eps, .initial_accumulator_value = o.initial_accumulator_value, .lr_decay = o.lr_decay}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_torch_adagrad(const Value& h, ComputeDtype) {
  const AdagradOptions o{.eps = h.real_or("eps", 1e-10),
                         .initial_accumulator_value = h.real_or("initial_accumulator_value", 0),
                         .lr_decay = h.real_or("lr_decay", 0),
                         .weight_decay = h.real_or("weight_decay", 0)};
  return {.routes = {{"any", adagrad(o), 1.0}}, .slots = {{"sum", "sum"}}};
}

inline RecipeInfo adagrad_info() {
  return recipe_row<AdagradOptions>({.name = "adagrad",
                                     .group = Group::elementwise,
                                     .summary = "entries over the root of the sum of their squares",
                                     .formula = "S <- S + G^2;  W <- W - lr G / (sqrt(S) + eps)",
                                     .paper = "Duchi, Hazan and Singer 2011; torch.optim.Adagrad",
                                     .state = "mn",
                                     .tune = "lr (0.003 to 0.1)",
                                     .published = {{"torch.optim.Adagrad", replay_torch_adagrad}}},
                                    adagrad);
}

}  // namespace schatten
