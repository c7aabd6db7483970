#include <schatten/papers/papers.h>

namespace schatten {

namespace {
template <class Options>
Recipe adam_named(const std::string& name, const Options& o) {
  return {.name = name,
          .direction = scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = o.form}),
          .decay = make_decay(o.decay, o.weight_decay)};
}
}  // namespace

/// Adam: moments of the (L2-decayed) gradient.
///   m <- b1 m + (1 - b1) G,  v <- b2 v + (1 - b2) G^2,  U = m^ / (sqrt(v^) + eps)   [m, n]
/// State     exp_avg, exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Kingma and Ba 2014, arXiv:1412.6980; torch.optim.Adam.
/// Checked   parity/torch_adam_*, law/*.
Recipe adam(const AdamOptions& o) { return adam_named("adam", o); }

/// AdamW: Adam with decoupled weight decay.
///   W <- (1 - lr lambda) W - lr U,  U as Adam's with G undecayed                   [m, n]
/// State     exp_avg, exp_avg_sq [m, n].
/// Locality  elementwise.
/// Source    Loshchilov and Hutter 2017, arXiv:1711.05101; torch.optim.AdamW.
/// Checked   parity/torch_adamw_*, identity/adamw_equals_torch, law/*.
Recipe adamw(const AdamwOptions& o) { return adam_named("adamw", o); }

RecipeInfo adam_info() {
  return recipe_row<AdamOptions>({.name = "adam",
                                  .summary = "Adam, with decay in the gradient (L2)",
                                  .formula = "U = m^ / (sqrt(v^) + eps)",
                                  .paper = "Kingma and Ba 2014, arXiv:1412.6980; torch.optim.Adam",
                                  .state = "2mn"},
                                 adam);
}

RecipeInfo adamw_info() {
  return recipe_row<AdamwOptions>({.name = "adamw",
                                   .summary = "Adam with decoupled weight decay",
                                   .formula = "W <- (1 - lr lambda) W - lr m^ / (sqrt(v^) + eps)",
                                   .paper = "Loshchilov and Hutter 2017, arXiv:1711.05101; torch.optim.AdamW",
                                   .state = "2mn"},
                                  adamw);
}

}  // namespace schatten
