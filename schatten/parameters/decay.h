// Weight decay: a value that acts on one W.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/parameter_info.h>
#include <schatten/core/tensor.h>

#include <array>

namespace schatten {

enum class DecayForm {
  none,
  decoupled,         // W <- (1 - lr lambda) W, before the update                (AdamW, Muon)
  after,             // the same after the update, on the updated W              (GaLore, APOLLO, SOAP)
  coupled,           // G <- G + lambda W, before the direction                  (L2: SGD, Adam)
  cautious,          // W <- W - lr lambda W where U W >= 0, with the update     (arXiv:2510.12402)
  cautious_squared,  // the same with lr^2 sqrt(max(1, m/n)) for lr: follows the schedule twice (modded-nanogpt)
};
constexpr auto enum_names(DecayForm) {
  return std::to_array<std::string_view>({"none", "decoupled", "after", "coupled", "cautious", "cautious_squared"});
}

/// What a recipe does to W beside its direction. Checked identity/decay_*, parity/*, law/*.
struct Decay {
  DecayForm form = DecayForm::none;
  double weight_decay = 0;
  void fields(auto&& visit) {
    visit("form", form, "none, decoupled, after, coupled, cautious, cautious_squared");
    visit("weight_decay", weight_decay, "lambda, >= 0");
  }
  bool active() const { return form != DecayForm::none && weight_decay != 0; }
  /// The gradient that the direction sees (a copy only when coupled).
  Tensor gradient(const Tensor& grad, const Tensor& param) const;
  /// Shrinks `param` in place, in the parameter's dtype: what comes before the update is applied, ...
  void before(Tensor& param, const Tensor& update, double lr, const ParameterInfo& info) const;
  /// ... and what comes after it.
  void after(Tensor& param, double lr) const;
};

Decay decoupled(double weight_decay);
Decay coupled(double weight_decay);
Decay cautious_decay(double weight_decay);
/// Checks the range and drops the form when lambda is 0.
Decay make_decay(DecayForm form, double weight_decay);

}  // namespace schatten
