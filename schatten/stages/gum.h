// A bracket: a subspace in most periods, the whole of what it leaves out in the others.
#pragma once
#include <schatten/stages/in_subspace.h>

namespace schatten {

/// Where a branch is weighted by its inverse probability. A stage that does not see scale (orthogonalisation) undoes
/// `pre`; `post` gives an update whose mean over the draws is that of both branches together.
enum class BranchWeights { pre, post, none };
constexpr auto enum_names(BranchWeights) { return std::to_array<std::string_view>({"pre", "post", "none"}); }

/// In periods of K steps either a subspace of r directions or, with probability q, its complement.
///   period start  P = r leading singular vectors of G on the smaller side; the branch is drawn; moments start at 0
///   low rank      U = w P inner(P^T G),            w = 1/(1 - q)     [r, n] inside (tall: G P, [m, r])
///   full rank     U = w (I - P P^T) inner(G - P P^T G),   w = 1/q    [m, n] inside
///   pre: inner(w ..) instead; none: w = 1. G - P P^T G is formed in float32 at least.
/// The second projection changes nothing for a map of singular values but keeps directions that are null up to rounding
/// from coming back.
/// Where r is the whole smaller side nothing is left over, and every period is one of low rank.
/// Draws: `full_blocks` of the transformer blocks per period, without replacement, all matrices of a block together;
/// every parameter outside blocks for itself, with `probability`.
/// State     P [m, r] or [n, r]; inner/..: the inner stage's for the branch of the period (the size changes with it).
/// Locality  matrix; every K steps the directions are sought, as in_subspace says.
/// Source    GUM, arXiv:2510.17802, from the paper's equations (no code is public); open points as below.
/// Differs   W - lr U (equations on record add, with G the gradient that is a misprint); momentum restarts with each
///           period; blocks are drawn so that memory is the same in all periods.
/// Checked   parity/gum_*, identity/gum_*, law/*.
struct InRandomSubspace {
  double rank = 0.25;
  int period = 200;
  Leading refresh = Leading::gram;
  double full_blocks = 0.25;
  double probability = 0.25;
  std::vector<int> branches{};
  BranchWeights weights = BranchWeights::pre;
  AtRefresh moments = AtRefresh::reset;
  void fields(auto&& visit) {
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("period", period, "K: steps with one subspace and one branch");
    visit("refresh", refresh, kRefreshHelp);
    visit("full_blocks", full_blocks,
          "blocks at full rank: >= 1 that many, below 1 that share; 0: each parameter alone");
    visit("probability", probability, "q in (0, 1) of parameters outside blocks, or drawn alone");
    visit("branches", branches, "the first periods' branches, 1 for full rank, in place of draws");
    visit("weights", weights, "by inverse probability: pre, post (unbiased), none");
    visit("moments", moments, "at a new period: reset, transport, keep (the latter two: as long as the branch stays)");
  }
};
Stage in_random_subspace(const InRandomSubspace& options, Stage inner);

/// The branch of one parameter in one period, and the probability that it had.
struct Branch {
  bool full = false;
  double probability = 0;  // of full rank
};
Branch drawn_branch(const InRandomSubspace& options, const ParameterInfo& parameter, const Rng& shared, int64_t period);

}  // namespace schatten
