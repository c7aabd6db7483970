#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/schatten_descent.h>

namespace schatten {

struct SchattenDescentOptions {
  double q = 9;
  DescentNorm norm = DescentNorm::lmo;
  double momentum = 0.95;
  bool nesterov = true;
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("q", q, "in [2, inf]: inf is Muon with an exact polar factor, 2 normalised momentum");
    visit("norm", norm, "lmo (unit Schatten-q norm), steepest, rms (as large as Muon's), spec, none");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Schatten descent: steepest descent under the Schatten-q norm, with the factor that HTMuon leaves out.
///   M <- mu M + (1 - mu) G,  X = (1 - mu) G + mu M = L S R^T           [m, n]
///   U  = c(m, n) L S^p R^T / |S|_(1+p)^p,  p = 1 / (q - 1)             (norm = lmo: does not see the scale of G)
///   W <- (1 - lr lambda) W - lr U
/// q = inf is Muon with an exact polar factor, q = 2 normalised gradient descent, q = 1 + 1/p HTMuon's direction.
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    the correspondence that HTMuon, arXiv:2603.10067, states; no code of it is public. Form: this project.
/// Checked   identity/schatten_descent_* (dual-norm identity, both ends), law/*.
inline Recipe schatten_descent(const SchattenDescentOptions& o) {
  check_share("schatten_descent", "momentum", o.momentum);
  return {.name = "schatten_descent",
          .direction = chain({ema({.beta = o.momentum, .nesterov = o.nesterov}),
                              schatten_descent(SchattenDescent{.q = o.q, .norm = o.norm}), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo schatten_descent_info() {
  return recipe_row<SchattenDescentOptions>(
      {.name = "schatten_descent",
       .group = Group::spectral_power,
       .summary = "steepest descent under a Schatten-q norm: q = inf is Muon, q = 2 normalised descent",
       .formula = "U = c(m, n) L S^p R^T / |S|_(1+p)^p of (1 - mu) G + mu M,  p = 1 / (q - 1)",
       .paper = "the form that HTMuon, arXiv:2603.10067, refers to; this project",
       .state = "mn",
       .tune = "lr (as Muon's for q = inf, larger for small q), q (5 to 33)"},
      schatten_descent);
}

}  // namespace schatten
