#pragma once
#include <schatten/papers/htmuon.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/normalize_variance.h>

namespace schatten {

struct HtadamuonOptions {
  SpectralPower map{};
  int every = 1;
  Orthogonalize between{.rounding = QuinticRounding::scaled_before};
  double momentum = 0.95;
  bool nesterov = true;
  bool sign = true;
  double beta2 = 0.95;
  double eps = 1e-8;
  double rms = 0.2;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    map.fields(visit);
    visit("every", every, "k: the spectral power on every k-th step, AdaMuon's Newton-Schulz on the others");
    visit("between", between, "the iteration there: schedule, steps, eps, eps_mode, rounding, compute");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("sign", sign, "take the power of the momentum's signs, as AdaMuon; false: of the momentum itself");
    visit("beta2", beta2, "decay of the second moment, in [0, 1)");
    visit("eps", eps, "added to its root and to the norm");
    visit("rms", rms, "root mean square of the update's entries");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// HTAdaMuon: AdaMuon with a spectral power in Newton-Schulz's place.
///   M <- mu M + (1 - mu) G,   X = (1 - mu) G + mu M,   sign(X) = L S R^T   [m, n]
///   O  = L S^p R^T;  every = k: on steps k, 2k, .., else NS5(sign(X) / |sign(X)|_F)
///   V <- b2 V + (1 - b2) O^2,   Y = O / (sqrt(V) + eps)                    [m, n]
///   U  = 0.2 sqrt(mn) Y / (|Y|_F + eps)
///   W <- (1 - lr lambda) W - lr U
/// State     momentum_buffer, exp_avg_sq [m, n]; V as htmuon.
/// Locality  matrix.
/// Source    this project's combination, in the spirit of HTMuon, arXiv:2603.10067 (whose plug-in is on NorMuon), and
///           AdaMuon, arXiv:2507.11005; nobody has published numbers for it.
/// Checked   identity/htadamuon_* (p = 0 is AdaMuon with an exact polar factor), law/*.
inline Recipe htadamuon(const HtadamuonOptions& o) {
  check_share("htadamuon", "momentum", o.momentum);
  std::vector<Stage> stages{ema({.beta = o.momentum, .nesterov = o.nesterov})};
  if (o.sign) stages.push_back(schatten::sign());
  stages.push_back(htmuon_map(o.map, o.every, o.between));
  stages.push_back(normalize_variance({.of = VarianceOf::entries,
                                       .beta2 = o.beta2,
                                       .eps = o.eps,
                                       .size = UpdateSize::rms,
                                       .rms = o.rms,
                                       .size_eps = o.eps}));
  return {.name = "htadamuon", .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo htadamuon_info() {
  return recipe_row<HtadamuonOptions>(
      {.name = "htadamuon",
       .group = Group::spectral_power,
       .summary = "AdaMuon with singular values to the power p (this project's combination)",
       .formula =
           "O = L S^p R^T of sign(M);  V <- b2 V + (1 - b2) O^2;  Y = O / (sqrt(V) + eps);  U = 0.2 sqrt(mn) Y / |Y|_F",
       .paper = "after HTMuon, arXiv:2603.10067, and AdaMuon, arXiv:2507.11005; no published numbers",
       .state = "2mn + 16m (rational, the default: V)",
       .tune = "lr (AdamW's: 3e-4 to 3e-3), power (0.03 to 0.25)"},
      htadamuon);
}

}  // namespace schatten
