#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

struct SimpleMuonOptions {
  double momentum = 0.95;
  bool nesterov = false;
  Orthogonalize polar{.schedule = "cubic", .steps = 5, .norm_margin = 1.1};
  ShapeScale shape = ShapeScale::none;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, norm_margin, compute");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// SimpleMuon, the "Muon" of the nGPT-Muon plan: five cubic steps. Not Muon.
///   M <- mu M + (1 - mu) G                                   [m, n]
///   X  = M / (1.1 |M|_F),  five times X <- 1.5 X - 0.5 X X^T X,   U = X
///   W <- (1 - lr lambda) W - lr U
/// A small singular value grows by 1.5^5 = 7.6 only (Muon's quintic: 485): on a spectrum 1/k (768 wide) the median
/// singular value of U is 0.014, on Gaussian input 0.20. It is nearer to normalised momentum SGD than to Muon, and is
/// here to reproduce that plan; take `muon` to train.
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    dnhkng/nGPT-muon (2025-12-26).
/// Checked   identity/simple_muon_*, law/*.
inline Recipe simple_muon(const SimpleMuonOptions& o) {
  check_share("simple_muon", "momentum", o.momentum);
  return {.name = "simple_muon",
          .direction = chain(
              {ema({.beta = o.momentum, .nesterov = o.nesterov}), orthogonalize(o.polar), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo simple_muon_info() {
  return recipe_row<SimpleMuonOptions>(
      {.name = "simple_muon",
       .group = Group::orthogonalizing,
       .summary = "five cubic steps: nearer to normalised momentum SGD than to Muon (for the nGPT-Muon plan only)",
       .formula = "M <- mu M + (1 - mu) G;  X = M / (1.1 |M|_F);  five times X <- 1.5 X - 0.5 X X^T X;  W <- W - lr X",
       .paper = "dnhkng/nGPT-muon; no paper",
       .state = "mn",
       .tune = "lr (0.003 to 0.02)"},
      simple_muon);
}

}  // namespace schatten
