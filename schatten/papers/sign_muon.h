#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/momentum.h>

namespace schatten {

struct SignMuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("momentum", momentum, "mu in [0, 1); 0: signSGD");
    visit("nesterov", nesterov, "look one step ahead");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// SignMuon's cheap step alone: the sign of momentum (signSGD with momentum, Signum).
///   M <- mu M + G                                            [m, n]
///   U  = sign(G + mu M)  (nesterov), else sign(M);   sign(0) = 0
///   W <- (1 - lr lambda) W - lr U
/// State     momentum_buffer [m, n].
/// Locality  elementwise.
/// Source    Bernstein et al. 2018, arXiv:1802.04434; code brain-lab-research/lion-muon@b7960be, sign_muon.py, every
///           step a cheap one and unscaled. Signs and spectral steps in turn: the recipe lion_muon.
/// Checked   identity/sign_muon_*, law/*.
inline Recipe sign_muon(const SignMuonOptions& o) {
  check_share("sign_muon", "momentum", o.momentum);
  return {.name = "sign_muon",
          .direction = chain({heavy_ball({.momentum = o.momentum, .nesterov = o.nesterov}), sign()}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo sign_muon_info() {
  return recipe_row<SignMuonOptions>(
      {.name = "sign_muon",
       .group = Group::elementwise,
       .summary = "sign of momentum (signSGD with momentum)",
       .formula = "M <- mu M + G;  U = sign(G + mu M);  W <- (1 - lr lambda) W - lr U",
       .paper = "Bernstein et al. 2018, arXiv:1802.04434; brain-lab-research/lion-muon (sign_muon.py)",
       .state = "mn",
       .tune = "lr (a tenth of AdamW's), momentum, weight_decay"},
      sign_muon);
}

}  // namespace schatten
