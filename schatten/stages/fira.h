// A subspace, and the rest of the gradient as large as the subspace suggests.
#pragma once
#include <schatten/stages/apollo.h>
#include <schatten/stages/in_subspace.h>

namespace schatten {

/// In a subspace the stage's update, outside of it the gradient, scaled alike and kept from growing fast.
///   R = P^T G,  N = inner(R)                                              P, sides and refreshes as in_subspace
///   S = (G - P R) a,  a_j = |N_j| / (|R_j| + 1e-8) per channel;  S <- limit_norm_growth(S)
///   U = alpha P N + S
/// State     P; inner/..: the inner stage's for R; limit_norm_growth/norm [1, 1].
/// Locality  matrix; every T steps the directions are sought, as in_subspace says.
/// Source    Fira: Chen et al. 2024, arXiv:2410.01623, code xichen-fy/Fira@5c28b13.
/// Differs   the code subtracts alpha P R from G, which leaves 1 - alpha of the subspace in S
///           (`residual_released = true`); the limiter as limit_norm_growth says.
/// Checked   identity/fira_*, law/*.
struct SubspaceAndResidual {
  double rank = 0.25;
  int refresh_every = 200;
  Leading refresh = Leading::gram;
  SubspaceType type = SubspaceType::std;
  double scale = 0.25;
  ChannelScale scale_type = ChannelScale::channel;
  double limit = 1.01;
  bool residual_released = false;
  bool limiter_released = false;
  Products products = Products::automatic;
  void fields(auto&& visit) {
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("refresh_every", refresh_every, "steps between two searches for directions");
    visit("refresh", refresh, kRefreshHelp);
    visit("type", type, "std (the smaller side), reverse_std, left, right");
    visit("scale", scale, "alpha, of the update inside");
    visit("scale_type", scale_type, "of the residual: channel, tensor");
    visit("limit", limit, "largest growth of the residual's norm per step");
    visit("residual_released", residual_released, "subtract alpha P P^T G only, as the released code does");
    visit("limiter_released", limiter_released, "a zero first residual freezes it, as in the released code");
    visit("products", products, kProductsHelp);
  }
};
Stage subspace_and_residual(const SubspaceAndResidual& options, Stage inner);

}  // namespace schatten
