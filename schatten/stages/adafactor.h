// Adam's scaling with one second moment per row and one per column.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Adafactor's direction.
///   b_t = 1 - t^decay_rate,  S = G^2 + eps
///   r <- b_t r + (1 - b_t) mean over columns of S [m, 1],   c <- b_t c + (1 - b_t) mean over rows of S [1, n]
///   X = G (r / mean(r))^(-1/2) c^(-1/2),   X <- X / max(1, RMS(X) / clip)                     [.., m, n]
///   U = X;   beta1 > 0:  M <- beta1 M + (1 - beta1) lr X,  U = M / lr     (the average is of steps, not of directions)
/// Where lr is 0 nothing moves, and M goes on.
/// State     exp_avg_sq_row [m, 1], exp_avg_sq_col [1, n]; beta1 > 0: exp_avg [m, n].
/// Locality  matrix.
/// Source    Shazeer and Stern 2018, arXiv:1804.04235, without relative steps and parameter scaling; as in
///           jiaweizzhao/GaLore@2cc66f8.
/// Checked   parity/galore_adafactor_*, identity/adafactor_*, law/*.
struct ScaleByAdafactor {
  double beta1 = 0, decay_rate = -0.8, eps = 1e-30, clip = 1;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the average of steps, in [0, 1); 0: none");
    visit("decay_rate", decay_rate, "< 0: b_t = 1 - t^decay_rate");
    visit("eps", eps, "added to squared gradients");
    visit("clip", clip, "largest RMS of a direction");
  }
  std::string name() const { return "scale_by_adafactor"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_adafactor(const ScaleByAdafactor& options);

}  // namespace schatten
