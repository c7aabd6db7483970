#include <schatten/papers/papers.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>

namespace schatten {

/// HTMuon: Muon that keeps a heavy tail, singular values to the power p instead of all to 1.
///   M <- mu M + (1 - mu) G,  X = (1 - mu) G + mu M           [m, n]
///   U  = c(m, n) L S^p R^T  for X = L S R^T
///   W <- (1 - lr lambda) W - lr U
/// Steepest descent under the Schatten-(1 + 1/p) norm without its dual-norm factor: |U| falls with |G| as |G|^p.
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    HTMuon, arXiv:2603.10067; code TDCSZ327/HTmuon@fa85e59. Rational method: this project.
/// Differs   singular values below eps max(m, n) sigma_max map to 0 (released code: rounding noise to the power p);
///           conv filters are scaled by their flattened shape (`shape = "jordan_released"` for the released code's 1).
/// Checked   parity/htmuon_svd_*, ortho_htmuon_svd_*, identity/htmuon_*, law/*.
Recipe htmuon(const HtmuonOptions& o) {
  check_share("htmuon", "momentum", o.momentum);
  std::vector<Stage> stages{
      ema({.beta = o.momentum, .nesterov = o.nesterov}),
      spectral_power(
          {.power = o.power, .method = o.method, .interval = o.interval, .poles = o.poles, .compute = o.compute})};
  if (o.update_norm == UpdateNorm::rms) stages.push_back(normalize_update());
  stages.push_back(scale_by_shape({o.shape}));
  return {.name = "htmuon", .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

RecipeInfo htmuon_info() {
  return recipe_row<HtmuonOptions>(
      {.name = "htmuon",
       .summary = "Muon with singular values to the power p",
       .formula = "M <- mu M + (1 - mu) G;  U = c(m, n) L S^p R^T of (1 - mu) G + mu M;  W <- (1 - lr lambda) W - lr U",
       .paper = "HTMuon, arXiv:2603.10067 (TDCSZ327/HTmuon); rational method: this project",
       .state = "mn"},
      htmuon);
}

}  // namespace schatten
