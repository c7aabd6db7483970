// Variance reduction: what the gradient has changed by counts once more.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// MARS's corrected gradient.
///   C = G + gamma beta1 / (1 - beta1) (G - G_prev)           [.., m, n]
///   U = C min(1, max_norm / |C|_F)
/// beta1 is that of the average which follows. G_prev is 0 at first.
/// State     previous_grad [m, n].
/// Locality  matrix (the norm is the parameter's); elementwise for max_norm = 0.
/// Source    Yuan et al. 2024, arXiv:2411.10438, code AGI-Arena/MARS@4831e28 (the approximate form: G_prev is the
///           previous step's gradient, not one of the old weights on the new batch).
/// Checked   parity/mars_*, identity/mars_*, law/*.
struct VarianceReduction {
  double beta1 = 0.95, gamma = 0.025, max_norm = 1;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the average that follows, in [0, 1)");
    visit("gamma", gamma, "strength of the correction; 0: none");
    visit("max_norm", max_norm, "largest Frobenius norm of the result; 0: any");
  }
  std::string name() const { return "variance_reduction"; }
  Traits traits() const { return {.locality = max_norm == 0 ? Locality::elementwise : Locality::matrix}; }
  StateSpec state(const Bucket&) const { return {.name = name(), .slots = {{"previous_grad"}}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage variance_reduction(const VarianceReduction& options);

}  // namespace schatten
