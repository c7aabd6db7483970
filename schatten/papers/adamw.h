#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adaptive.h>

namespace schatten {

/// One family, two published defaults: Adam's decay is in the gradient and off, AdamW's decoupled and 0.01.
template <DecayForm published>
struct AdamFamilyOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = published == DecayForm::decoupled ? 0.01 : 0;
  DecayForm decay = published;
  AdamForm form = AdamForm::torch;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the root");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled, decoupled, after, cautious");
    visit("form", form, "torch, uncorrected_eps");
  }
};
using AdamOptions = AdamFamilyOptions<DecayForm::coupled>;
using AdamwOptions = AdamFamilyOptions<DecayForm::decoupled>;

/// betas, eps, weight_decay, as torch and most codes name them.
template <class Options = AdamwOptions>
Options adam_options(const Value& hyper) {
  return {.beta1 = beta(hyper, 0),
          .beta2 = beta(hyper, 1),
          .eps = hyper.real_or("eps", 1e-8),
          .weight_decay = hyper.real_or("weight_decay", 0)};
}

template <class Options>
Recipe adam_named(const std::string& name, const Options& o) {
  return {.name = name,
          .direction = scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = o.form}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// Adam: moments of the (L2-decayed) gradient.
///   m <- b1 m + (1 - b1) G,  v <- b2 v + (1 - b2) G^2,  U = m^ / (sqrt(v^) + eps)   [m, n]
/// State     exp_avg, exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Kingma and Ba 2014, arXiv:1412.6980; torch.optim.Adam.
/// Checked   parity/torch_adam_*, law/*.
inline Recipe adam(const AdamOptions& o) { return adam_named("adam", o); }

/// AdamW: Adam with decoupled weight decay.
///   W <- (1 - lr lambda) W - lr U,  U as Adam's with G undecayed                   [m, n]
/// State     exp_avg, exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Loshchilov and Hutter 2017, arXiv:1711.05101; torch.optim.AdamW.
/// Checked   parity/torch_adamw_*, identity/adamw_equals_torch, law/*.
inline Recipe adamw(const AdamwOptions& o) { return adam_named("adamw", o); }

inline RecipeInfo adam_info() {
  return recipe_row<AdamOptions>(
      {.name = "adam",
       .group = Group::elementwise,
       .summary = "Adam, with decay in the gradient (L2)",
       .formula = "U = m^ / (sqrt(v^) + eps)",
       .paper = "Kingma and Ba 2014, arXiv:1412.6980; torch.optim.Adam",
       .state = "2mn",
       .tune = "lr (3e-4 to 1e-2)",
       .published = {{"torch.optim.Adam",
                      [](const Value& h, ComputeDtype) {
                        return Replay{.routes = {{"any", adam(adam_options<AdamOptions>(h)), 1.0}}};
                      }}}},
      adam);
}

inline RecipeInfo adamw_info() {
  return recipe_row<AdamwOptions>({.name = "adamw",
                                   .group = Group::elementwise,
                                   .summary = "Adam with decoupled weight decay",
                                   .formula = "W <- (1 - lr lambda) W - lr m^ / (sqrt(v^) + eps)",
                                   .paper = "Loshchilov and Hutter 2017, arXiv:1711.05101; torch.optim.AdamW",
                                   .state = "2mn",
                                   .tune = "lr (3e-4 to 1e-2), weight_decay",
                                   .published = {{"torch.optim.AdamW",
                                                  [](const Value& h, ComputeDtype) {
                                                    return Replay{.routes = {{"any", adamw(adam_options(h)), 1.0}}};
                                                  }}}},
                                  adamw);
}

}  // namespace schatten
