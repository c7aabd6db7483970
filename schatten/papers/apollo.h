#pragma once
#include <schatten/papers/galore.h>
#include <schatten/stages/apollo.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/in_eigenbasis.h>
#include <schatten/stages/masks.h>

#include <algorithm>
#include <cmath>

namespace schatten {

/// One family, two published defaults: channels of a quarter of the side, or one direction and one number.
template <bool mini>
struct ApolloFamilyOptions {
  double rank = mini ? 1 : 0.25;
  int refresh_every = 200;
  Leading refresh = Leading::gram;
  ApolloProjection projection = ApolloProjection::random;
  SubspaceType type = SubspaceType::std;
  ChannelScale scale_type = mini ? ChannelScale::tensor : ChannelScale::channel;
  double scale = mini ? 128 : 1;
  bool scale_front = false;
  double limit = 1.01;
  bool limiter_released = false;
  int64_t seed = 0;
  bool keep_projection = false;
  Products products = Products::automatic;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  DecayForm decay = DecayForm::after;
  void fields(auto&& visit) {
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("refresh_every", refresh_every, "T: steps between two projections");
    visit("refresh", refresh, kRefreshHelp);
    visit("projection", projection, "random (redrawn from a seed), svd");
    visit("type", type, "std (the smaller side is projected), reverse_std, left, right");
    visit("scale_type", scale_type, "channel (a factor per row or column), tensor (one)");
    visit("scale", scale, "alpha: the update is multiplied by its root");
    visit("scale_front", scale_front, "before the limiter, not behind it");
    visit("limit", limit, "largest growth of the update's norm per step; 0: none");
    visit("limiter_released", limiter_released, "a zero first gradient freezes the matrix, as in the released code");
    visit("seed", seed, "of the first random projection; 0: the parameter's position, counted from 1");
    visit("keep_projection", keep_projection, "P stays in the state (as in the code), no draw in each step");
    visit("products", products, kProductsHelp);
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the uncorrected root");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "after, decoupled, coupled, cautious");
  }
};
using ApolloOptions = ApolloFamilyOptions<false>;
using ApolloMiniOptions = ApolloFamilyOptions<true>;

template <class Options>
Recipe apollo_named(const std::string& name, const Options& o) {
  check_positive(name, "scale", o.scale);
  std::vector<Stage> stages{scale_channels_like(
      {.rank = o.rank,
       .refresh_every = o.refresh_every,
       .refresh = o.refresh,
       .projection = o.projection,
       .type = o.type,
       .scale_type = o.scale_type,
       .seed = o.seed,
       .keep_projection = o.keep_projection,
       .products = o.products},
      scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .form = AdamForm::uncorrected}))};
  const Stage root_of_scale = scale(std::sqrt(o.scale));
  if (o.scale_front) stages.push_back(root_of_scale);
  if (o.limit != 0) stages.push_back(limit_norm_growth({.limit = o.limit, .released = o.limiter_released}));
  if (!o.scale_front) stages.push_back(root_of_scale);
  stages.push_back(adam_correction({.beta1 = o.beta1, .beta2 = o.beta2}));
  return {.name = name, .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

/// APOLLO: SGD whose channels are as large as Adam, run on a random projection, would make them.
///   R = P^T G [r, n] (wide) or G P [m, r] (tall),  P ~ N(0, 1/r), redrawn every T steps
///   N = m / (sqrt(v) + eps),  m, v Adam's moments of R
///   U = G a,  a_j = |N_j| / (|R_j| + 1e-8)      a factor per column (wide) or row (tall); `tensor`: one
///   U <- U / l, so that |U| grows by no more than 1 % a step;  U <- sqrt(alpha) U  (scale_front: before)
///   W <- W - lr sqrt(1 - b2^t) / (1 - b1^t) U,  then  W <- (1 - lr lambda) W
/// The limiter stands before the bias corrections: behind them it would see Adam's first steps as growth.
/// State     exp_avg, exp_avg_sq [r, n], seed, norm: 2rn + 2 (P is redrawn from its seed in each step; it stays, and
///           takes mr more, with keep_projection).
/// Locality  matrix.
/// Source    Zhu et al. 2024, arXiv:2412.05270, code zhuhanqing/APOLLO@76b3472. Draws are torch's CPU generator's, on
///           every device.
/// Differs   the code keeps P; a zero first gradient does not freeze the matrix (`limiter_released = true` for that);
///           scalars of the limiter are float32 at least.
/// Checked   parity/apollo_*, identity/apollo_*, linalg/subspace, law/*.
inline Recipe apollo(const ApolloOptions& o) { return apollo_named("apollo", o); }

/// APOLLO-Mini: one direction, one factor per matrix, alpha = 128.
///   U = G |N| / |R|,  N and R of one random direction; the rest as APOLLO
/// State     exp_avg, exp_avg_sq [1, n], seed, norm: 2n + 2.
/// Locality  matrix.
/// Source    Zhu et al. 2024, arXiv:2412.05270, code zhuhanqing/APOLLO@76b3472 (scale_front in its smallest scripts).
/// Checked   parity/apollo_square_mini*, identity/apollo_*, law/*.
inline Recipe apollo_mini(const ApolloMiniOptions& o) { return apollo_named("apollo_mini", o); }

inline ApolloOptions apollo_options(const Value& h) {
  ApolloOptions o{.rank = real(h, "rank"),
                  .refresh_every = static_cast<int>(integer(h, "update_proj_gap")),
                  .refresh = Leading::svd,
                  .scale = real(h, "scale"),
                  .scale_front = flag(h, "scale_front"),
                  .limit = flag(h, "disable_nl") ? 0 : 1.01,
                  .limiter_released = true,
                  .beta1 = beta(h, 0),
                  .beta2 = beta(h, 1),
                  .eps = real(h, "eps"),
                  .weight_decay = real(h, "weight_decay")};
  read_field(h.at("proj"), "hyper", "proj", o.projection);
  read_field(h.at("proj_type"), "hyper", "proj_type", o.type);
  read_field(h.at("scale_type"), "hyper", "scale_type", o.scale_type);
  return o;
}

/// The recorded seeds where there are some; what is in `plain_params` has a route of its own before.
inline std::vector<Route> apollo_routes(const Value& h, ApolloOptions o) {
  std::vector<Route> routes;
  if (const Value* plain = h.find("plain_params"))
    for (const Value& name : plain->as_array()) routes.push_back({name.as_string(), low_rank_plain_adamw(h), 1.0});
  const auto is_plain = [&](const std::string& name) {
    return std::any_of(routes.begin(), routes.end(), [&](const Route& r) { return r.match == name; });
  };
  const Value* seeds = h.find("seeds");
  if (!seeds) {
    o.seed = h.integer_or("first_seed", 0);
    routes.push_back({"any", apollo(o), 1.0});
    return routes;
  }
  for (const auto& [name, seed] : seeds->as_table()) {
    if (is_plain(name)) continue;
    o.seed = seed.as_integer();
    routes.push_back({name, apollo(o), 1.0});
  }
  return routes;
}

inline Replay replay_apollo(const Value& h, ComputeDtype) {
  const ApolloOptions o = apollo_options(h);
  Replay replay = o.projection == ApolloProjection::svd ? with_projectors(apollo_routes(h, o))
                                                        : Replay{.routes = apollo_routes(h, o), .slots = {{"P", ""}}};
  replay.slots.push_back({"limiter_norm", "norm"});
  return replay;
}

inline RecipeInfo apollo_info() {
  return recipe_row<ApolloOptions>(
      {.name = "apollo",
       .group = Group::low_rank,
       .summary = "the gradient, each channel as large as Adam on a random projection would make it",
       .formula = "N = Adam(P^T G);  U = G |N_j| / |P^T G|_j per channel, growing by at most 1 % a step",
       .paper = "APOLLO, arXiv:2412.05270 (zhuhanqing/APOLLO)",
       .state = "2rn + 2",
       .tune = "lr (0.01), rank (1/4 of the side), scale (1)",
       .published = {{"APOLLO", replay_apollo}}},
      apollo);
}

inline RecipeInfo apollo_mini_info() {
  return recipe_row<ApolloMiniOptions>(
      {.name = "apollo_mini",
       .group = Group::low_rank,
       .summary = "the gradient, as large as Adam on one random direction would make it",
       .formula = "N = Adam(p^T G);  U = sqrt(128) G |N| / |p^T G|, growing by at most 1 % a step",
       .paper = "APOLLO-Mini, arXiv:2412.05270 (zhuhanqing/APOLLO)",
       .state = "2n + 2",
       .tune = "lr (0.01), scale (128)"},
      apollo_mini);
}

}  // namespace schatten
