#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/normalize_variance.h>
#include <schatten/stages/spectral.h>

namespace schatten {

struct AdamuonOptions {
  double momentum = 0.95;
  MomentumForm momentum_form = MomentumForm::ema;
  bool nesterov = true;
  bool sign = true;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  double beta2 = 0.95;
  double eps = 1e-8;
  double rms = 0.2;
  bool released_conv = false;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("momentum", momentum, "mu in [0, 1)");
    visit("momentum_form", momentum_form, "ema, heavy_ball");
    visit("nesterov", nesterov, "look one step ahead");
    visit("sign", sign, "orthogonalise the signs (the paper from version 2 on); false: the momentum itself");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("beta2", beta2, "decay of the second moment, in [0, 1); the authors': mu");
    visit("eps", eps, "added to its root and to the norm");
    visit("rms", rms, "root mean square of the update's entries");
    visit("released_conv", released_conv, "conv filters: rms times sqrt(min max / mn) of the four dims");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// AdaMuon: Adam's second moment on an orthogonal update.
///   M <- mu M + (1 - mu) G,   X = (1 - mu) G + mu M          [m, n]   (nesterov)
///   O  = NS5(sign(X) / |sign(X)|_F)
///   V <- mu V + (1 - mu) O^2,   Y = O / (sqrt(V) + eps)      [m, n]
///   U  = 0.2 sqrt(mn) Y / (|Y|_F + eps)
///   W <- (1 - lr lambda) W - lr U
/// The first update is 0.2 sign(O); the RMS of every one is 0.2, so that AdamW's lr and lambda carry over.
/// Variants  sign = false: the paper's first version; momentum_form = "heavy_ball", nesterov = false: its Algorithm 1.
/// State     momentum_buffer, exp_avg_sq [m, n].
/// Locality  matrix.
/// Source    Si et al. 2025, arXiv:2507.11005, code Chongjie-Si/AdaMuon@369f0b3 (gpt2).
/// Differs   V is float32 at least (the code: bfloat16); conv filters have mn entries (released_conv: the code's
///           min max of the unflattened shape).
/// Checked   parity/adamuon_*, identity/adamuon_*, law/*.
inline Recipe adamuon(const AdamuonOptions& o) {
  check_share("adamuon", "momentum", o.momentum);
  std::vector<Stage> stages{momentum(o.momentum_form, o.momentum, o.nesterov)};
  if (o.sign) stages.push_back(schatten::sign());
  stages.push_back(orthogonalize(o.polar));
  stages.push_back(normalize_variance({.of = VarianceOf::entries,
                                       .beta2 = o.beta2,
                                       .eps = o.eps,
                                       .size = UpdateSize::rms,
                                       .rms = o.rms,
                                       .size_eps = o.eps,
                                       .released_conv = o.released_conv}));
  return {.name = "adamuon", .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_adamuon(const Value& h, ComputeDtype compute) {
  const AdamuonOptions o{.momentum = real(h, "momentum"),
                         .nesterov = flag(h, "nesterov"),
                         .polar = {.steps = static_cast<int>(integer(h, "ns_steps")),
                                   .rounding = QuinticRounding::scaled_before,
                                   .compute = compute},
                         .beta2 = real(h, "momentum"),
                         .eps = real(h, "eps"),
                         .released_conv = true,
                         .weight_decay = real(h, "weight_decay")};
  return {.routes = {{"any", adamuon(o), 1.0}}, .slots = {{"v_flat", "exp_avg_sq"}}};
}

inline RecipeInfo adamuon_info() {
  return recipe_row<AdamuonOptions>(
      {.name = "adamuon",
       .group = Group::orthogonalizing,
       .summary = "Adam's second moment on Muon's update of the momentum's signs",
       .formula = "O = NS5(sign(M));  V <- mu V + (1 - mu) O^2;  Y = O / (sqrt(V) + eps);  U = 0.2 sqrt(mn) Y / |Y|_F",
       .paper = "AdaMuon, arXiv:2507.11005 (Chongjie-Si/AdaMuon)",
       .state = "2mn",
       .tune = "lr (AdamW's: 3e-4 to 3e-3), weight_decay",
       .published = {{"AdaMuon (gpt2)", replay_adamuon}}},
      adamuon);
}

}  // namespace schatten
