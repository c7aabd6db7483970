// Lion's momentum: what is stepped along and what is kept are two averages.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// One buffer, mixed at two rates.
///   U  = beta1 M + (1 - beta1) G
///   M <- beta2 M + (1 - beta2) G                             [.., m, n]
/// State     exp_avg [m, n].
/// Locality  elementwise.
/// Source    Chen et al. 2023, arXiv:2302.06675; code lucidrains/lion-pytorch@6a74fdc.
/// Checked   parity/lion_*, c_lion_*, identity/lion_*, law/*.
struct LionMomentum {
  double beta1 = 0.9, beta2 = 0.99;
  void fields(auto&& visit) {
    visit("beta1", beta1, "share of the buffer in the direction, in [0, 1)");
    visit("beta2", beta2, "decay of the buffer, in [0, 1)");
  }
  std::string name() const { return "lion_momentum"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name(), .slots = {{"exp_avg"}}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage lion_momentum(const LionMomentum& options);

}  // namespace schatten
