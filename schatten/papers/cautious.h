// Cautious optimizers: three published ones whose update passes only where it agrees with the gradient. Any other
// recipe takes the same mask by `cautious = true`.
#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/lion.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

struct CautiousAdamwOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  AdamForm form = AdamForm::torch;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the root");
    visit("weight_decay", weight_decay, "lambda");
    visit("form", form, "torch (the released foreach path), uncorrected_eps (its loop)");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

struct CautiousLionOptions {
  double beta1 = 0.95, beta2 = 0.98, weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "share of the buffer in the direction");
    visit("beta2", beta2, "decay of the buffer");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

struct CautiousMuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Cautious AdamW.
///   m, v as Adam's;   mask = [m G > 0]                       [m, n]
///   U  = m^ / (sqrt(v^) + eps) * mask / max(mean(mask), 1e-3)
///   W <- (1 - lr lambda) W - lr U
/// Variants  form = "uncorrected_eps": eps on the raw root, as in the released loop.
/// State     exp_avg, exp_avg_sq [m, n]: unmasked.
/// Locality  matrix (the mask's share).
/// Source    Liang et al. 2024, arXiv:2411.16085; code kyleliang919/C-Optim@2c0517c.
/// Differs   hyper-parameters stay in double: the released foreach path rounds them to float32.
/// Checked   parity/c_adamw_*, identity/cautious_*, law/*.
inline Recipe c_adamw(const CautiousAdamwOptions& o) {
  return {.name = "c_adamw",
          .direction =
              chain({scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = o.form}), cautious({})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// Cautious Lion.
///   U  = sign(b1 M + (1 - b1) G),   mask = [U G > 0]         [m, n]
///   U <- U * mask mn / (sum(mask) + 1)
///   M <- b2 M + (1 - b2) G,   W <- (1 - lr lambda) W - lr U
/// State     exp_avg [m, n].
/// Locality  matrix (the mask's share).
/// Source    as c_adamw.
/// Checked   parity/c_lion_*, identity/cautious_*, law/*.
inline Recipe c_lion(const CautiousLionOptions& o) {
  return {.name = "c_lion",
          .direction = chain(
              {lion_momentum({.beta1 = o.beta1, .beta2 = o.beta2}), sign(), cautious({.scale = MaskScale::lion})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// Cautious Muon: the mask comes before the iteration.
///   M <- mu M + (1 - mu) G,   mask = [M G > 0]               [m, n]
///   X  = ((1 - mu) G + mu M) * mask / max(mean(mask), 1e-3)
///   U  = c(m, n) NS5(X / |X|_F),   W <- (1 - lr lambda) W - lr U
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    as c_adamw.
/// Differs   as Muon: conv filters are scaled by their flattened shape, a missing gradient skips the step.
/// Checked   parity/c_muon_*, identity/cautious_*, law/*.
inline Recipe c_muon(const CautiousMuonOptions& o) {
  check_share("c_muon", "momentum", o.momentum);
  const double mixed = o.nesterov && o.momentum > 0 ? o.momentum : 1;
  return {.name = "c_muon",
          .direction = chain({ema({.beta = o.momentum, .nesterov = o.nesterov}), cautious({.nesterov = mixed}),
                              orthogonalize(o.polar), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_c_adamw(AdamForm form, const Value& h) {
  const CautiousAdamwOptions o{.beta1 = beta(h, 0),
                               .beta2 = beta(h, 1),
                               .eps = real(h, "eps"),
                               .weight_decay = h.real_or("weight_decay", 0),
                               .form = form};
  return {.routes = {{"any", c_adamw(o), 1.0}}};
}

inline Replay replay_c_lion(const Value& h, ComputeDtype) {
  const CautiousLionOptions o{.beta1 = beta(h, 0), .beta2 = beta(h, 1), .weight_decay = h.real_or("weight_decay", 0)};
  return {.routes = {{"any", c_lion(o), 1.0}}};
}

inline Replay replay_c_muon(const Value& h, ComputeDtype compute) {
  const CautiousMuonOptions o{.momentum = real(h, "momentum"),
                              .nesterov = flag(h, "nesterov"),
                              .polar = polar_of(h, QuinticRounding::scaled_before, compute),
                              .shape = ShapeScale::jordan_released,
                              .weight_decay = real(h, "weight_decay")};
  if (!h.find("aux_params")) return {.routes = {{"any", c_muon(o), 1.0}}, .missing_is_zero = true};
  const CautiousAdamwOptions aux{.beta1 = beta(h, 0, "aux_betas"),
                                 .beta2 = beta(h, 1, "aux_betas"),
                                 .eps = real(h, "aux_eps"),
                                 .weight_decay = real(h, "weight_decay")};
  return {.routes = with_auxiliary(h, "aux_params", c_adamw(aux), real(h, "aux_lr_factor"), c_muon(o)),
          .missing_is_zero = true};
}

constexpr const char* kCautiousPaper = "Liang et al. 2024, arXiv:2411.16085 (kyleliang919/C-Optim)";

inline RecipeInfo c_adamw_info() {
  const auto form = [](AdamForm f) { return [f](const Value& h, ComputeDtype) { return replay_c_adamw(f, h); }; };
  return recipe_row<CautiousAdamwOptions>(
      {.name = "c_adamw",
       .group = Group::elementwise,
       .summary = "AdamW where it agrees with the gradient",
       .formula = "mask = [m G > 0];  U = m^ / (sqrt(v^) + eps) mask / max(mean(mask), 1e-3)",
       .paper = kCautiousPaper,
       .state = "2mn",
       .tune = "lr (AdamW's), weight_decay",
       .published = {{"Cautious AdamW (foreach)", form(AdamForm::torch)},
                     {"Cautious AdamW (loop)", form(AdamForm::uncorrected_eps)}}},
      c_adamw);
}

inline RecipeInfo c_lion_info() {
  return recipe_row<CautiousLionOptions>(
      {.name = "c_lion",
       .group = Group::elementwise,
       .summary = "Lion where it agrees with the gradient",
       .formula = "U = sign(b1 M + (1 - b1) G);  mask = [U G > 0];  U <- U mask mn / (sum(mask) + 1)",
       .paper = kCautiousPaper,
       .state = "mn",
       .tune = "lr (Lion's), weight_decay",
       .published = {{"Cautious Lion", replay_c_lion}}},
      c_lion);
}

inline RecipeInfo c_muon_info() {
  return recipe_row<CautiousMuonOptions>({.name = "c_muon",
                                          .group = Group::orthogonalizing,
                                          .summary = "Muon on momentum where it agrees with the gradient",
                                          .formula = "mask = [M G > 0];  U = c(m, n) NS5(((1 - mu) G + mu M) mask)",
                                          .paper = kCautiousPaper,
                                          .state = "mn",
                                          .tune = "lr (Muon's), the rate of the vectors' c_adamw",
                                          .published = {{"Cautious Muon", replay_c_muon}}},
                                         c_muon);
}

}  // namespace schatten
