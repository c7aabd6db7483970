// Adam in a leading subspace, orthogonalisation outside it.
#pragma once
#include <schatten/stages/spectral.h>

namespace schatten {

/// COSMOS.
///   M  <- beta1 M + G,  c_t = (1 - beta1^t) / (1 - beta1)                              [.., m, n]
///   Gh  = (G + beta1 M) / (1 + beta1 c_t)  if nesterov, else M / c_t
///   P_1 = leading r right singular vectors of G;  P_t = Q factor of beta2 P Gam + (1 - beta2) G^T (G P)       [n, r]
///   Gam <- beta2 T^T Gam T + (1 - beta2) (G P)^T (G P),  T = P_(t-1)^T P_t             [r, r]
///   V  <- beta2 V + (1 - beta2) (G P)^2                                                [m, r]
///   A   = ((Gh P) / (sqrt(V / (1 - beta2^t)) + eps)) P^T
///   B   = NS5(Gh - Gh P P^T),  A <- A + gamma sqrt(mn) B / (|B|_F + eps)
///   U   = lr_ratio sqrt(mn) A / (|A|_F + eps): the RMS of every update is lr_ratio
/// Vectors, and matrices of more than `max_rows` rows, are on Adam (U = its direction).
/// State     momentum_buffer [m, n], exp_avg_sq [m, r], P [n, r], Gam [r, r]; on Adam exp_avg_sq [m, n], no P.
/// Locality  matrix.
/// Source    Liu et al. 2025, arXiv:2502.17410, code lliu606/COSMOS@61de180.
/// Differs   without Nesterov that code steps on G / c_t, which has no momentum; its Adam has 0.1 and 0.9 for 1 - beta1
///           and beta1 in places, and takes convolution filters, too: `released = true` repeats all three.
///           What is left of Gh outside P is 0 where it is rounding noise. V does not turn with P, here as there.
/// Checked   parity/cosmos_*, identity/cosmos_*, law/*.
struct Cosmos {
  double beta1 = 0.95, beta2 = 0.95, eps = 1e-8;
  double rank = 0.1;
  double lr_ratio = 0.2, gamma = 0.2;
  bool nesterov = true;
  Orthogonalize polar{};
  int64_t max_rows = 10000;
  bool released = false;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the momentum, in [0, 1)");
    visit("beta2", beta2, "decay of second moments and subspace, in [0, 1)");
    visit("eps", eps, "guards the divisions");
    visit("rank", rank, "of the subspace: a number, or a share of the smaller side where below 1");
    visit("lr_ratio", lr_ratio, "RMS of an update at lr 1");
    visit("gamma", gamma, "weight of what is outside the subspace");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("max_rows", max_rows, "matrices with more rows are on Adam (embeddings, heads)");
    visit("released", released, "as the authors' code: see Differs");
  }
};
Stage cosmos_direction(const Cosmos& options);

}  // namespace schatten
