#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/in_eigenbasis.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/scaling.h>

namespace schatten {

/// What SOAP's switch normalize_grads does to a whole update.
enum class SoapNorm {
  none,
  rms,           // RMS 1
  rms_released,  // RMS sqrt(1 - beta2^t) / (1 - beta1^t): the released code corrects biases after normalising
};
constexpr auto enum_names(SoapNorm) { return std::to_array<std::string_view>({"none", "rms", "rms_released"}); }

struct SoapOptions {
  double beta1 = 0.95, beta2 = 0.95, eps = 1e-8;
  double shampoo_beta = -1;
  int every = 10;
  int64_t max_dim = 10000;
  bool merge_dims = false;
  bool precondition_1d = false;
  Products products = Products::automatic;
  SoapNorm normalize = SoapNorm::none;
  double weight_decay = 0.01;
  DecayForm decay = DecayForm::after;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the root");
    visit("shampoo_beta", shampoo_beta, "decay of the statistics; negative: beta2");
    visit("every", every, "steps between two turns of the basis");
    visit("max_dim", max_dim, "dimensions longer than this keep their axes");
    visit("merge_dims", merge_dims, "take dimensions of filters together as long as they stay within max_dim");
    visit("precondition_1d", precondition_1d, "vectors, too");
    visit("products", products, kProductsHelp);
    visit("normalize", normalize, "none, rms (1 for every update), rms_released");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled, decoupled, after, cautious");
  }
};

/// SOAP: Adam in the eigenbasis of Shampoo's statistics.
///   GG_0 <- b GG_0 + (1 - b) G G^T,  GG_1 likewise of G^T G,  Q_i their eigenvectors     [m, m], [n, n]
///   G' = Q_0^T G Q_1;  m, v moments of G', carried along when Q turns                    [m, n]
///   U  = Q_0 (sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)) Q_1^T
///   W <- W - lr U,  then W <- (1 - lr lambda) W
/// The first gradient only sets up the bases. Any other stage can stand in Adam's place: see in_eigenbasis.
/// State     exp_avg, exp_avg_sq [m, n] (rotated); GG0, Q0 [m, m], GG1, Q1 [n, n] (sides up to max_dim).
/// Locality  matrix.
/// Source    Vyas et al. 2024, arXiv:2409.11321, code nikhilvyas/SOAP@a1e5535.
/// Differs   normalize = "rms" gives every update RMS 1 ("rms_released": times the bias corrections, as there).
/// Checked   parity/soap_*, identity/soap_*, law/*.
inline Recipe soap(const SoapOptions& o) {
  Stage inner = scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = AdamForm::uncorrected_eps});
  if (o.normalize != SoapNorm::none) {  // a rotation keeps the norm, so it can be set inside
    std::vector<Stage> stages{inner, normalize_update(), scale_by_shape({ShapeScale::moonlight}), scale(5)};
    if (o.normalize == SoapNorm::rms_released) stages.push_back(adam_correction({o.beta1, o.beta2}));
    inner = chain(std::move(stages));
  }
  return {.name = "soap",
          .direction = in_eigenbasis({.beta = o.shampoo_beta < 0 ? o.beta2 : o.shampoo_beta,
                                      .every = o.every,
                                      .max_dim = o.max_dim,
                                      .merge_dims = o.merge_dims,
                                      .precondition_1d = o.precondition_1d,
                                      .products = o.products},
                                     inner),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// The recorded bases are written in after the first step: null spaces are LAPACK's choice.
inline Replay replay_soap(const Value& h, ComputeDtype) {
  const SoapOptions o{.beta1 = beta(h, 0),
                      .beta2 = beta(h, 1),
                      .eps = real(h, "eps"),
                      .shampoo_beta = real(h, "shampoo_beta"),
                      .every = static_cast<int>(integer(h, "precondition_frequency")),
                      .max_dim = integer(h, "max_precond_dim"),
                      .merge_dims = flag(h, "merge_dims"),
                      .precondition_1d = flag(h, "precondition_1d"),
                      .normalize = flag(h, "normalize_grads") ? SoapNorm::rms_released : SoapNorm::none,
                      .weight_decay = real(h, "weight_decay")};
  Replay replay{.routes = {{"any", soap(o), 1.0}}, .slots = {{"m_rotated", "exp_avg"}, {"v_rotated", "exp_avg_sq"}}};
  for (int i = 0; i < 6; ++i) {
    const std::string n = std::to_string(i);
    replay.slots.push_back({"GG" + n, "GG" + n});
    replay.slots.push_back({"Q" + n, "Q" + n, SlotAlias::columns});
    replay.inputs.push_back({.theirs = "state.Q" + n + ".000", .ours = "Q" + n, .after = true});
  }
  return replay;
}

inline RecipeInfo soap_info() {
  return recipe_row<SoapOptions>(
      {.name = "soap",
       .group = Group::second_order,
       .summary = "Adam in the eigenbasis of Shampoo's statistics",
       .formula = "G' = Q_0^T G Q_1;  U = Q_0 Adam(G') Q_1^T;  Q_i: eigenvectors of the averages of G G^T, G^T G",
       .paper = "Vyas et al. 2024, arXiv:2409.11321 (nikhilvyas/SOAP)",
       .state = "2mn + 2m^2 + 2n^2",
       .tune = "lr (1e-3 to 1e-2), every (1 to 100)",
       .published = {{"SOAP", replay_soap}}},
      soap);
}

}  // namespace schatten
