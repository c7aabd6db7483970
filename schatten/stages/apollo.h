// The gradient itself, channel by channel as large as a stage in a small subspace would make it; and a brake on growth.
#pragma once
#include <schatten/stages/in_subspace.h>

namespace schatten {

enum class ApolloProjection {
  random,  // Gaussian, redrawn from a seed whenever it is needed
  svd,     // the leading singular directions, as GaLore's
};
constexpr auto enum_names(ApolloProjection) { return std::to_array<std::string_view>({"random", "svd"}); }
enum class ChannelScale {
  channel,  // one factor per row or column of the side that is not projected
  tensor,   // one for the matrix
};
constexpr auto enum_names(ChannelScale) { return std::to_array<std::string_view>({"channel", "tensor"}); }

/// Takes only the size of its update from the stage inside.
///   R = P^T G [r, n] or G P [m, r] as in_subspace,  N = inner(R)
///   U = G a,  a_j = |N_j| / (|R_j| + 1e-8)            norms over the r directions; `tensor`: one a of the whole
///   random  P ~ N(0, 1/r), by torch's CPU generator from a seed; every T steps the next seed is the 15th int64 that
///           a generator of the old one gives. The first is the parameter's position, counted from 1.
///   svd     P as in_subspace.
/// State     random: seed [1] (P is redrawn from it in each step; keep_projection: P, too); svd: P; inner/..: the inner
///           stage's for R.
/// Locality  matrix.
/// Source    APOLLO: Zhu et al. 2024, arXiv:2412.05270, code zhuhanqing/APOLLO@76b3472.
/// Differs   the code keeps P (`keep_projection = true`; the same bits); left and right work for every shape.
/// Checked   parity/apollo_*, linalg/subspace (their draws), identity/apollo_*, law/*.
struct ScaleChannelsLike {
  double rank = 0.25;
  int refresh_every = 200;
  Leading refresh = Leading::gram;
  ApolloProjection projection = ApolloProjection::random;
  SubspaceType type = SubspaceType::std;
  ChannelScale scale_type = ChannelScale::channel;
  int64_t seed = 0;
  bool keep_projection = false;
  Products products = Products::automatic;
  void fields(auto&& visit) {
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("refresh_every", refresh_every, "steps between two projections");
    visit("refresh", refresh, kRefreshHelp);
    visit("projection", projection, "random (redrawn from a seed), svd");
    visit("type", type, "std (the smaller side is projected), reverse_std, left, right");
    visit("scale_type", scale_type, "channel, tensor");
    visit("seed", seed, "of the first random projection; 0: the parameter's position, counted from 1");
    visit("keep_projection", keep_projection, "random: P stays in the state (as in the code), no draw in each step");
    visit("products", products, kProductsHelp);
  }
};
Stage scale_channels_like(const ScaleChannelsLike& options, Stage inner);

/// |N| / (|R| + 1e-8) over the directions of a subspace, or over the whole: what a bracket multiplies G by.
Tensor channel_factor(const Tensor& n, const Tensor& r, const SubspaceShape& shape, ChannelScale type);

/// No update may be more than one per cent larger than the one before.
///   t = 1   nu = |X|_F,  U = X
///   then    l = max(|X|_F / (nu + 1e-8), gamma) / gamma,  U = X / l,  nu <- |X|_F / l
/// State     norm [1, 1] (nu; at least float32).
/// Locality  matrix.
/// Source    Fira: Chen et al. 2024, arXiv:2410.01623; APOLLO's norm-growth limiter, zhuhanqing/APOLLO@76b3472.
/// Differs   starts when nu > 0: the codes store the 0 of a first zero gradient and then let nothing grow from there,
///           about 1850 steps long (`released = true`).
/// Checked   parity/apollo_*, identity/limiter_*, law/*.
struct LimitNormGrowth {
  double limit = 1.01;
  bool released = false;
  void fields(auto&& visit) {
    visit("limit", limit, "gamma > 1: growth of the norm per step");
    visit("released", released, "a zero first gradient freezes the matrix, as in the released codes");
  }
  std::string name() const { return "limit_norm_growth"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const;
  Tensor limiter(const Tensor& u, State& s, const Step& step) const;  // l [.., 1, 1]; moves nu on
  Value to_value() const { return stage_value(name(), *this); }
};
Stage limit_norm_growth(const LimitNormGrowth& options);

}  // namespace schatten
