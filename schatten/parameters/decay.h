// Weight decay: a value that acts on one W.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/tensor.h>

#include <array>

namespace schatten {

enum class DecayForm {
  none,
  decoupled,  // W <- (1 - lr lambda) W, before the update           (AdamW, Muon)
  coupled,    // G <- G + lambda W, before the direction             (L2: SGD, Adam)
  cautious,   // W <- W - lr lambda W where U W >= 0, with the update  (arXiv:2510.12402)
};
constexpr auto enum_names(DecayForm) {
  return std::to_array<std::string_view>({"none", "decoupled", "coupled", "cautious"});
}

/// What a recipe does to W beside its direction. Checked identity/decay_*, parity/*, law/*.
struct Decay {
  DecayForm form = DecayForm::none;
  double weight_decay = 0;
  void fields(auto&& visit) {
    visit("form", form, "none, decoupled, coupled, cautious");
    visit("weight_decay", weight_decay, "lambda, >= 0");
  }
  bool active() const { return form != DecayForm::none && weight_decay != 0; }
  /// The gradient that the direction sees (a copy only when coupled).
  Tensor gradient(const Tensor& grad, const Tensor& param) const;
  /// Shrinks `param` in place, in the parameter's dtype, before the update is applied.
  void apply(Tensor& param, const Tensor& update, double lr) const;
};

Decay decoupled(double weight_decay);
Decay coupled(double weight_decay);
Decay cautious(double weight_decay);
/// Checks the range and drops the form when lambda is 0.
Decay make_decay(DecayForm form, double weight_decay);

}  // namespace schatten
