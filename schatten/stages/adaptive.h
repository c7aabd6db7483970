// Stages that scale each entry by what its own gradients have been.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Where eps enters: torch adds it to the corrected root, GaLore's and Moonlight's codes to the uncorrected one.
/// `uncorrected` leaves the bias corrections to a later adam_correction (APOLLO's, behind its limiter).
enum class AdamForm { torch, uncorrected_eps, uncorrected };
constexpr auto enum_names(AdamForm) {
  return std::to_array<std::string_view>({"torch", "uncorrected_eps", "uncorrected"});
}

/// Adam's direction.
///   m <- beta1 m + (1 - beta1) G,   v <- beta2 v + (1 - beta2) G^2
///   torch            U = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
///   uncorrected_eps  U = sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)
///   uncorrected      U = m / (sqrt(v) + eps)
/// State     exp_avg (none for beta1 = 0), exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Kingma and Ba 2014, arXiv:1412.6980; torch.optim.AdamW; Moonlight's auxiliary AdamW.
/// Checked   parity/torch_adam*, keller_muon_multi, moonlight_muon_multi, identity/adamw_equals_torch, law/*.
struct ScaleByAdam {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  AdamForm form = AdamForm::torch;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment, in [0, 1)");
    visit("beta2", beta2, "decay of the second moment, in [0, 1)");
    visit("eps", eps, "added to the root");
    visit("form", form, "torch: eps on the corrected root; uncorrected_eps: on the raw one; uncorrected: none");
  }
  std::string name() const { return "scale_by_adam"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const {
    const SlotSpec second{.name = "exp_avg_sq", .follows = Follows::permutation};
    if (beta1 == 0) return {.name = name(), .slots = {second}};
    return {.name = name(), .slots = {{"exp_avg"}, second}};
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_adam(const ScaleByAdam& options);

}  // namespace schatten
