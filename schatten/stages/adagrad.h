// Adagrad: entries divided by the root of the sum of all their squares so far.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Adagrad's direction.
///   S <- S + G^2  (S_0 = initial_accumulator_value)
///   U  = G / (sqrt(S) + eps) / (1 + (t - 1) lr_decay)        [.., m, n]
/// State     sum [m, n].
/// Locality  elementwise.
/// Source    Duchi, Hazan and Singer 2011; torch.optim.Adagrad.
/// Checked   parity/torch_adagrad_*, identity/adagrad_equals_torch, law/*.
struct ScaleByAdagrad {
  double eps = 1e-10, initial_accumulator_value = 0, lr_decay = 0;
  void fields(auto&& visit) {
    visit("eps", eps, "added to the root");
    visit("initial_accumulator_value", initial_accumulator_value, "what the sum starts from");
    visit("lr_decay", lr_decay, "the t-th update is divided by 1 + (t - 1) lr_decay");
  }
  std::string name() const { return "scale_by_adagrad"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const {
    return {.name = name(), .slots = {{.name = "sum", .follows = Follows::permutation}}};
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_adagrad(const ScaleByAdagrad& options);

}  // namespace schatten
