#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/cosmos.h>

namespace schatten {

struct CosmosOptions {
  double beta1 = 0.95, beta2 = 0.95, eps = 1e-8;
  double rank = 0.1;
  double lr_ratio = 0.2, gamma = 0.2;
  bool nesterov = true;
  Orthogonalize polar{};
  int64_t max_rows = 10000;
  bool released = false;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the momentum, in [0, 1)");
    visit("beta2", beta2, "decay of second moments and subspace, in [0, 1)");
    visit("eps", eps, "guards the divisions");
    visit("rank", rank, "of the subspace: a number (the paper's 64), or a share of the smaller side where below 1");
    visit("lr_ratio", lr_ratio, "RMS of an update at lr 1");
    visit("gamma", gamma, "weight of what is outside the subspace");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("max_rows", max_rows, "matrices with more rows are on Adam (embeddings, heads)");
    visit("released", released, "as the authors' code: its three defects, too");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled, decoupled, after, cautious");
  }
};

/// COSMOS: Adam in the leading subspace of the gradients, Muon in the rest.
///   M <- b1 M + G;  Gh: G mixed with M;  P: leading right subspace, by one power iteration a step       [n, r]
///   V <- b2 V + (1 - b2) (G P)^2                                                                       [m, r]
///   A  = (Gh P / (sqrt(V / (1 - b2^t)) + eps)) P^T + gamma sqrt(mn) B / |B|_F,  B = NS5(Gh - Gh P P^T)
///   W <- (1 - lr lambda) W - lr lr_ratio sqrt(mn) A / |A|_F
/// Vectors and matrices of more than max_rows rows are on Adam at the same rate.
/// State     momentum_buffer [m, n], exp_avg_sq [m, r], P [n, r], Gam [r, r].
/// Locality  matrix.
/// Source    Liu et al. 2025, arXiv:2502.17410, code lliu606/COSMOS@61de180.
/// Differs   see cosmos_direction; `released = true` repeats the code.
/// Checked   parity/cosmos_*, identity/cosmos_*, law/*.
inline Recipe cosmos(const CosmosOptions& o) {
  return {.name = "cosmos",
          .direction = cosmos_direction({.beta1 = o.beta1,
                                         .beta2 = o.beta2,
                                         .eps = o.eps,
                                         .rank = o.rank,
                                         .lr_ratio = o.lr_ratio,
                                         .gamma = o.gamma,
                                         .nesterov = o.nesterov,
                                         .polar = o.polar,
                                         .max_rows = o.max_rows,
                                         .released = o.released}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_cosmos(const Value& h, ComputeDtype compute) {
  const CosmosOptions o{.beta1 = beta(h, 0),
                        .beta2 = beta(h, 1),
                        .eps = real(h, "eps"),
                        .rank = real(h, "rank"),
                        .lr_ratio = real(h, "lr_ratio"),
                        .gamma = real(h, "gamma"),
                        .nesterov = flag(h, "nesterov"),
                        .polar = {.steps = static_cast<int>(integer(h, "ns_steps")),
                                  .rounding = QuinticRounding::scaled_before,
                                  .compute = compute},
                        .released = true,
                        .weight_decay = real(h, "weight_decay")};
  // The signs of P's first columns are LAPACK's choice, and Gam's entries go by them.
  return {.routes = {{"any", cosmos(o), 1.0}},
          .slots = {{"P", "P", SlotAlias::span}, {"Gam", "Gam"}, {"v", "exp_avg_sq"}},
          .inputs = {{.theirs = "state.P.000", .ours = "P", .after = true},
                     {.theirs = "state.Gam.000", .ours = "Gam", .after = true}}};
}

inline RecipeInfo cosmos_info() {
  return recipe_row<CosmosOptions>(
      {.name = "cosmos",
       .group = Group::second_order,
       .summary = "Adam in the gradients' leading subspace, Muon in the rest",
       .formula = "A = (Gh P / (sqrt(V^) + eps)) P^T + gamma sqrt(mn) B / |B|_F,  B = NS5(Gh - Gh P P^T);  "
                  "U = lr_ratio sqrt(mn) A / |A|_F",
       .paper = "Liu et al. 2025, arXiv:2502.17410 (lliu606/COSMOS)",
       .state = "mn + mr + nr + r^2",
       .tune = "lr (1e-3 to 5e-3), rank, lr_ratio (0.1 to 0.25)",
       .published = {{"COSMOS", replay_cosmos}}},
      cosmos);
}

}  // namespace schatten
