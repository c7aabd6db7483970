// Orthogonal updates of a part of the momentum: Dion's power iteration, Dion2's largest rows.
#pragma once
#include <schatten/stages/spectral.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// Low-rank orthogonal update by one power iteration from the last step's basis, with error feedback.
///   M <- M + G;   P = qr(M Q)  [m, r];   R = M^T P  [n, r]
///   M <- M - (1 - mu) P R^T;   Q <- R_j / (|R_j| + eps) per column;   U = P Q^T                [.., m, n]
/// A zero M gives U = 0 and keeps Q. transpose: a wide M is worked on transposed (P [n, r], Q [m, r]).
/// State     momentum_buffer [m, n], Q [n, r] (transposed: [m, r]), drawn from N(0, 1) at the first step.
/// Locality  matrix.
/// Source    Ahn et al. 2025, arXiv:2504.05295, code microsoft/dion@0a059a4 dion_simple.py (transpose: dion.py).
/// Differs   Householder QR for the code's randomised Cholesky QR: the same P up to column signs, which U is free of.
/// Checked   parity/dion_*, identity/dion_*, law/*.
struct LowRankPolar {
  double rank = 0.25;
  double mu = 0.95;
  double eps = 1e-8;
  bool transpose = true;
  void fields(auto&& visit) {
    visit("rank", rank, "directions: a share of the smaller side in (0, 1), that many from 1 on, all for 0");
    visit("mu", mu, "share of the taken directions that stays in the momentum, in [0, 1)");
    visit("eps", eps, "guards the columns' lengths, > 0");
    visit("transpose", transpose, "wide matrices transposed: Q follows the smaller side");
  }
  std::string name() const { return "low_rank_polar"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false, .draws = true}; }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage low_rank_polar(const LowRankPolar& options);

/// Orthogonalises the largest rows of the momentum (columns where there are fewer of them); the rest waits.
///   M <- M + G;   I = the ceil(fraction m) rows with the largest L1 norm;   U_I = polar(M_I), 0 elsewhere   [.., m, n]
///   M_I <- decay M_I
/// State     momentum_buffer [m, n].   Locality  matrix.
/// Source    Dion2, arXiv:2512.16928, code microsoft/dion@0a059a4 dion2.py.
/// Differs   of equal norms the first rows win; the code leaves it open.
/// Checked   parity/dion2_*, identity/dion2_*, law/*.
struct OrthogonalizeLargest {
  double fraction = 0.25;
  double decay = 0.95;
  Orthogonalize polar{.schedule = "modded", .eps = 1e-8, .rounding = QuinticRounding::scaled_after};
  void fields(auto&& visit) {
    visit("fraction", fraction, "share of the rows (or columns) per step, in (0, 1]");
    visit("decay", decay, "what stays of a chosen row's momentum, in [0, 1)");
    visit("polar", polar, "the iteration: schedule, steps, eps, ...");
  }
};
Stage orthogonalize_largest(const OrthogonalizeLargest& options);

}  // namespace schatten
