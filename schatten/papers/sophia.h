#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/sophia.h>

namespace schatten {

struct SophiaOptions {
  ScaleBySophia scaling;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    scaling.fields(visit);
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Sophia: momentum over a running diagonal of the Hessian, clipped entry by entry.
///   M <- b1 M + (1 - b1) G                                   [m, n]
///   U  = clip(M / (rho bs h + 1e-15), 1)
///   W <- (1 - lr lambda) W - lr U
///   h <- b2 h + (1 - b2) g^2 after every `probe_every`-th step, g the gradient on labels sampled from the model
/// Variants  estimator = "hutchinson": h <- b2 h + (1 - b2) u * (H u), max(h, 0) in place of bs h.
/// State     exp_avg, hessian [m, n].
/// Locality  elementwise.
/// Source    Liu et al. 2023, arXiv:2305.14342; code Liuhong99/Sophia@a7e1572.
/// Differs   bs is an option as published, and has to be set: tokens per probe.
/// Checked   parity/sophia_*, identity/sophia_*, law/*.
inline Recipe sophia(const SophiaOptions& o) {
  return {.name = "sophia", .direction = scale_by_sophia(o.scaling), .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_sophia(const Value& h, ComputeDtype) {
  SophiaOptions o;
  o.scaling.beta1 = beta(h, 0);
  o.scaling.beta2 = beta(h, 1);
  o.scaling.rho = real(h, "rho");
  o.scaling.bs = real(h, "bs");
  o.weight_decay = real(h, "weight_decay");
  return {.routes = {{"any", sophia(o), 1.0}}, .slots = {{"h", "hessian"}}};
}

inline RecipeInfo sophia_info() {
  return recipe_row<SophiaOptions>(
      {.name = "sophia",
       .group = Group::elementwise,
       .summary = "momentum over a diagonal of the Hessian, clipped",
       .formula = "U = clip(M / (rho bs h + 1e-15), 1);  h <- b2 h + (1 - b2) g^2 on sampled labels, now and then",
       .paper = "Liu et al. 2023, arXiv:2305.14342 (Liuhong99/Sophia)",
       .state = "2mn",
       .tune = "lr (a little below AdamW's), rho (0.01 to 0.1), bs (tokens per probe)",
       .published = {{"SophiaG", replay_sophia}}},
      sophia);
}

}  // namespace schatten
