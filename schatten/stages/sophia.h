// Sophia: momentum over a diagonal of the Hessian, entry by entry at most 1.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// What the probe is.
enum class SophiaEstimator {
  gauss_newton,  // the gradient g on labels sampled from the model: h follows g^2, and bs g^2 is the diagonal
  hutchinson,    // u * (H u) itself
};
constexpr auto enum_names(SophiaEstimator) { return std::to_array<std::string_view>({"gauss_newton", "hutchinson"}); }

/// Sophia's direction.
///   M <- beta1 M + (1 - beta1) G
///   U  = sign(M) min(1, |M| / (rho bs h + 1e-15))            [.., m, n]
///   h <- beta2 h + (1 - beta2) g^2                           with each probe (gauss_newton)
///   hutchinson: h <- beta2 h + (1 - beta2) u * (H u), and max(h, 0) in place of bs h
/// Without a probe h stays 0 and this is sign momentum.
/// State     exp_avg, hessian [m, n].
/// Locality  elementwise.
/// Source    Liu et al. 2023, arXiv:2305.14342; code Liuhong99/Sophia@a7e1572 (gauss_newton; Hutchinson's form is the
///           paper's).
/// Checked   parity/sophia_*, identity/sophia_*, law/*.
struct ScaleBySophia {
  double beta1 = 0.965, beta2 = 0.99, rho = 0.04, bs = 5120;
  SophiaEstimator estimator = SophiaEstimator::gauss_newton;
  int probe_every = 10;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the momentum, in [0, 1)");
    visit("beta2", beta2, "decay of the Hessian's average, in [0, 1)");
    visit("rho", rho, "what the Hessian is multiplied by: smaller means more entries at 1");
    visit("bs", bs, "gauss_newton: tokens per probe (batch size times length)");
    visit("estimator", estimator, "gauss_newton (gradient on sampled labels), hutchinson (u * (H u))");
    visit("probe_every", probe_every, "steps between two probes");
  }
  std::string name() const { return "scale_by_sophia"; }
  Traits traits() const {
    return {.probe = estimator == SophiaEstimator::hutchinson ? ProbeKind::hutchinson : ProbeKind::gauss_newton,
            .probe_every = probe_every};
  }
  StateSpec state(const Bucket&) const {
    return {.name = name(), .slots = {{"exp_avg"}, {.name = "hessian", .follows = Follows::permutation}}};
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  void probe(const Tensor& h, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_sophia(const ScaleBySophia& options);

}  // namespace schatten
