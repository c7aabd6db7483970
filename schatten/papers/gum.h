#pragma once
#include <schatten/papers/galore.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/gum.h>

namespace schatten {

enum class GumVariant { sampled, complement };
constexpr auto enum_names(GumVariant) { return std::to_array<std::string_view>({"sampled", "complement"}); }
struct GumOptions {
  GumVariant variant = GumVariant::sampled;
  double rank = 0.25;
  int period = 200;
  Leading refresh = Leading::gram;
  double full_blocks = 0.25;
  double probability = 0.25;
  std::vector<int> branches{};
  BranchWeights weights = BranchWeights::pre;
  AtRefresh moments = AtRefresh::reset;
  double momentum = 0.95;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  ShapeScale shape = ShapeScale::moonlight;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("variant", variant, "sampled (the paper's), complement (both branches in every step, one without state)");
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("period", period, "K: steps with one subspace and one branch");
    visit("refresh", refresh, kRefreshHelp);
    visit("full_blocks", full_blocks,
          "blocks at full rank: >= 1 that many, below 1 that share; 0: each parameter alone");
    visit("probability", probability, "q in (0, 1) of parameters outside blocks, or drawn alone");
    visit("branches", branches, "the first periods' branches, 1 for full rank, in place of draws");
    visit("weights", weights, "by inverse probability: pre (the paper's; NS undoes it), post (unbiased), none");
    visit("moments", moments, "at a new period: reset, transport, keep");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "none, jordan, moonlight, bernstein: of the whole matrix, for both branches");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// GUM: GaLore with Muon inside, and at times Muon on what GaLore leaves out.
///   every K steps  P = r leading singular vectors of G on the smaller side [m, r]; the branch is drawn; R <- 0
///   low rank   (1 - q)  R <- mu R + P^T G / (1 - q)   [r, n],   U = c(m, n) P NS5(R)
///   full rank  (q)      R <- mu R + (G - P P^T G) / q [m, n],   U = c(m, n) NS5(R)
///   W <- (1 - lr lambda) W - lr U                               (tall: the same on the right)
/// NS5 does not see the factors 1/q: in direction the mean update is Muon's at q = 1/2 only, or with weights = "post".
/// Variants  sampled     as above; full_blocks of the transformer blocks per period, the rest with `probability`;
///           complement  U = c (P NS5(R) + NS5(G - P P^T G)) in every step: no draw, no full-size state.
/// State     P [m, r]; momentum_buffer [r, n], of the chosen blocks [m, n].
/// Locality  matrix; every K steps the directions are sought, as in_subspace says.
/// Source    GUM, arXiv:2510.17802, from the paper's equations (no public code). Not on record and chosen here: c (0.2
///           sqrt(max(m, n))), K, the restart of momentum, exactly full_blocks blocks. complement: this project.
/// Differs   W - lr U; see in_random_subspace.
/// Checked   parity/gum_* (an independent float64 reference), identity/gum_*, law/*.
inline Recipe gum(const GumOptions& o) {
  check_share("gum", "momentum", o.momentum);
  const Stage polar = orthogonalize(o.polar);
  const Stage inner = chain({heavy_ball({.momentum = o.momentum}), polar});
  Stage direction = o.variant == GumVariant::complement ? in_subspace({.rank = o.rank,
                                                                       .refresh_every = o.period,
                                                                       .refresh = o.refresh,
                                                                       .moments = o.moments,
                                                                       .complement = polar.to_value()},
                                                                      inner)
                                                        : in_random_subspace({.rank = o.rank,
                                                                              .period = o.period,
                                                                              .refresh = o.refresh,
                                                                              .full_blocks = o.full_blocks,
                                                                              .probability = o.probability,
                                                                              .branches = o.branches,
                                                                              .weights = o.weights,
                                                                              .moments = o.moments},
                                                                             inner);
  return {.name = "gum",
          .direction = chain({std::move(direction), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// "KJ quintic x5, eps 1e-7", or "polar factor, ...".
inline Orthogonalize gum_polar(const std::string& text, ComputeDtype compute) {
  if (text.starts_with("polar factor")) return {.schedule = "exact"};
  const size_t steps = text.find(" x"), eps = text.find("eps ");
  if (!text.starts_with("KJ quintic") || steps == std::string::npos || eps == std::string::npos)
    fail_usage({"GUM", "orthogonalizer 'KJ quintic xN, eps E' or 'polar factor'", "'" + text + "'", ""});
  return {.steps = std::stoi(text.substr(steps + 2)),
          .eps = std::stod(text.substr(eps + 4)),
          .rounding = QuinticRounding::scaled_before,
          .compute = compute};
}

inline ShapeScale gum_shape(const std::string& scaling) {
  if (scaling == "none") return ShapeScale::none;
  if (scaling == "spectral") return ShapeScale::jordan;
  if (scaling == "rms") return ShapeScale::moonlight;
  fail_usage({"GUM", "lr_scaling none, spectral or rms", "'" + scaling + "'", ""});
}

inline Replay replay_gum(const Value& h, ComputeDtype compute) {
  GumOptions o{.rank = real(h, "rank"),
               .period = static_cast<int>(integer(h, "period")),
               .refresh = Leading::svd,
               .full_blocks = 0,
               .probability = real(h, "q"),
               .momentum = real(h, "beta"),
               .polar = gum_polar(h.at("orthogonalizer").as_string(), compute),
               .shape = gum_shape(h.at("lr_scaling").as_string()),
               .weight_decay = real(h, "weight_decay")};
  read_field(h.at("branch_full"), "hyper", "branch_full", o.branches);
  return with_projectors({{"any", gum(o), 1.0}});
}

inline RecipeInfo gum_info() {
  return recipe_row<GumOptions>(
      {.name = "gum",
       .group = Group::low_rank,
       .summary = "Muon in a subspace, and in a few blocks at a time on what the subspace leaves out",
       .formula = "U = P NS5(R), R <- mu R + P^T G;  with probability q: NS5(R), R <- mu R + G - P P^T G",
       .paper = "GUM, arXiv:2510.17802 (equations; no public code); complement: this project",
       .state = "mr + (1 - q) rn + q mn (complement: mr + rn)",
       .tune = "lr (anew for each rank and q), rank, full_blocks, period (200), variant",
       .published = {{"GUM", replay_gum}}},
      gum);
}

}  // namespace schatten
