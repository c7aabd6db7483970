#pragma once
#include <schatten/papers/adamw.h>
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adafactor.h>
#include <schatten/stages/adam_8bit.h>
#include <schatten/stages/in_subspace.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

struct GaloreOptions {
  Value inner = "adamw";
  double rank = 0.25;
  int refresh_every = 200;
  Leading refresh = Leading::gram;
  SubspaceType type = SubspaceType::std;
  double scale = 0.25;
  AtRefresh moments = AtRefresh::keep;
  Products products = Products::automatic;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6;
  ShapeScale shape = ShapeScale::none;
  double weight_decay = 0;
  DecayForm decay = DecayForm::after;
  void fields(auto&& visit) {
    visit("inner", inner, "adamw, adafactor, adam_8bit, muon (sets the keys below); or a stage or chain");
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("refresh_every", refresh_every, "T: steps between two searches for directions");
    visit("refresh", refresh, kRefreshHelp);
    visit("type", type, "std (the smaller side), reverse_std, left, right, full");
    visit("scale", scale, "alpha");
    visit("moments", moments, "at a refresh: keep (GaLore), transport, reset");
    visit("products", products, kProductsHelp);
    visit("beta1", beta1, "decay of the first moment (adafactor: 0 for none; muon: of the momentum)");
    visit("beta2", beta2, "decay of the second moment (adamw, adam_8bit)");
    visit("eps", eps, "adamw: added to the uncorrected root; adam_8bit: to the corrected one");
    visit("shape", shape, "none, jordan, moonlight, bernstein: of the whole matrix");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "after, decoupled, coupled, cautious");
  }
};

/// The published settings around an inner optimizer.
inline GaloreOptions galore_around(const Value& inner) {
  GaloreOptions o{.inner = inner};
  const std::string name = inner.is_string() ? inner.as_string() : "";
  if (name == "adafactor") {
    o.beta1 = 0;
    o.eps = 1e-30;
    o.decay = DecayForm::decoupled;
  }
  if (name == "adam_8bit") {
    o.eps = 1e-8;
    o.weight_decay = 0.01;
  }
  if (name == "muon") {
    o.beta1 = 0.95;
    o.scale = 1;
    o.shape = ShapeScale::jordan;
    o.decay = DecayForm::decoupled;
  }
  return o;
}

inline Stage galore_inner(const GaloreOptions& o) {
  if (!o.inner.is_string()) return make_stage(o.inner);
  const std::string& name = o.inner.as_string();
  if (name == "adamw")
    return scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = AdamForm::uncorrected_eps});
  if (name == "adafactor") return scale_by_adafactor({.beta1 = o.beta1, .eps = o.eps});
  if (name == "adam_8bit") return scale_by_adam_8bit({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps});
  if (name == "muon") return chain({ema({.beta = o.beta1, .nesterov = true}), orthogonalize({})});
  fail_enum(o.inner, "galore", "inner", {"adamw", "adafactor", "adam_8bit", "muon"});
}

/// GaLore: an optimizer of any kind on the gradient's leading singular directions.
///   every T steps  P = r leading left (wide) or right (tall) singular vectors of G    [m, r] or [n, r]
///   R = P^T G or G P,  N = inner(R)                                                   [r, n] or [m, r]
///   adamw  N = sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps),  m, v of R
///   W <- W - lr alpha P N  (or N P^T),  then  W <- (1 - lr lambda) W
/// Variants  adamw      eps = 1e-6;
///           adafactor  factored second moments, decay before the step;
///           adam_8bit  moments in blocks of 8-bit codes, eps = 1e-8 on the corrected root, lambda = 0.01;
///           muon       Nesterov momentum of R, orthogonalised; alpha = 1, c(m, n) of the whole matrix (GaLore-Muon);
///           or any stage or chain that does not read W.
/// State     P, and the inner stage's for R (adamw: exp_avg, exp_avg_sq).
/// Locality  matrix; every T steps the directions are sought, as in_subspace says.
/// Source    Zhao et al. 2024, arXiv:2403.03507, code jiaweizzhao/GaLore@2cc66f8 (alpha: its scripts').
/// Differs   see in_subspace; adam_8bit: the small update does not pass through the parameter's dtype. Moments stay in
///           old coordinates as in the code (`moments = "transport"` turns them).
/// Checked   parity/galore_*, identity/galore_*, identity/subspace_*, law/*.
inline Recipe galore(const GaloreOptions& o) {
  Stage direction = in_subspace({.rank = o.rank,
                                 .refresh_every = o.refresh_every,
                                 .refresh = o.refresh,
                                 .type = o.type,
                                 .scale = o.scale,
                                 .moments = o.moments,
                                 .products = o.products},
                                galore_inner(o));
  if (o.shape != ShapeScale::none) direction = chain({std::move(direction), scale_by_shape({o.shape})});
  return {.name = "galore", .direction = std::move(direction), .decay = make_decay(o.decay, o.weight_decay)};
}

/// rank, gap, type, scale, lambda: what both recordings have.
inline GaloreOptions galore_options(const Value& h, const Value& inner) {
  GaloreOptions o = galore_around(inner);
  o.rank = real(h, "rank");
  o.refresh_every = static_cast<int>(integer(h, "update_proj_gap"));
  o.refresh = Leading::svd;
  read_field(h.at("proj_type"), "hyper", "proj_type", o.type);
  o.scale = real(h, "scale");
  o.weight_decay = real(h, "weight_decay");
  return o;
}

/// Their AdamW: what parameters without a rank get.
inline Recipe low_rank_plain_adamw(const Value& h) {
  AdamwOptions o = adam_options(h);
  o.form = AdamForm::uncorrected_eps;
  o.decay = DecayForm::after;
  return adamw(o);
}

/// Recorded projectors are written into the slot before the SVD, which then takes their signs.
inline Replay with_projectors(std::vector<Route> routes) {
  Replay replay{.routes = std::move(routes)};
  for (const std::string p : {"P", "P_left", "P_right"}) {
    replay.slots.push_back({p, p, SlotAlias::columns});
    replay.inputs.push_back({.theirs = "projector." + p + ".*", .ours = p});
  }
  return replay;
}

inline Replay replay_galore_adamw(const Value& h, ComputeDtype) {
  GaloreOptions o = galore_options(h, "adamw");
  o.beta1 = beta(h, 0);
  o.beta2 = beta(h, 1);
  o.eps = real(h, "eps");
  return with_projectors(with_auxiliary(h, "plain_params", low_rank_plain_adamw(h), 1.0, galore(o)));
}

inline Replay replay_galore_adafactor(const Value& h, ComputeDtype) {
  if (flag(h, "relative_step") || flag(h, "scale_parameter"))
    fail_usage({"GaLore Adafactor", "relative_step and scale_parameter off", to_json(h), "Rates are given here."});
  const Value& beta1 = h.at("beta1");
  const Stage inner = scale_by_adafactor({.beta1 = beta1.is_number() ? beta1.as_real() : 0.0,
                                          .decay_rate = real(h, "decay_rate"),
                                          .eps = real(h, "eps"),
                                          .clip = real(h, "clip_threshold")});
  GaloreOptions o = galore_options(h, inner.to_value());
  o.decay = DecayForm::decoupled;
  Replay replay = with_projectors({{"any", galore(o), 1.0}});
  replay.slots.push_back({"row", "exp_avg_sq_row"});
  replay.slots.push_back({"col", "exp_avg_sq_col"});
  return replay;
}

inline RecipeInfo galore_info() {
  return recipe_row<GaloreOptions>(
      {.name = "galore",
       .group = Group::low_rank,
       .summary = "AdamW, Adafactor, 8-bit Adam, Muon or any stage on the gradient's leading directions",
       .formula = "every T steps P = r leading singular vectors of G;  W <- W - lr alpha P inner(P^T G)",
       .paper = "Zhao et al. 2024, arXiv:2403.03507 (jiaweizzhao/GaLore)",
       .state = "mr + 2rn (adamw), mr + rn (muon)",
       .tune = "lr (0.005 to 0.02), rank (1/4 of the side), scale (0.25; 4 for fine-tuning), refresh_every (200)",
       .published = {{"GaLore AdamW", replay_galore_adamw}, {"GaLore Adafactor", replay_galore_adafactor}}},
      galore, [](const Value& table) {
        const Value* inner = table.find("inner");
        return galore_around(inner ? *inner : Value("adamw"));
      });
}

}  // namespace schatten
