// Newton-Schulz iterations towards the polar factor U V^T.
#pragma once
#include <schatten/core/tensor.h>
#include <schatten/linalg/polynomial_schedule.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace schatten {

/// How eps enters the normalisation: X / (|X|_F + eps) or X / max(|X|_F, eps).
enum class EpsMode { add, clamp };
constexpr auto enum_names(EpsMode) { return std::to_array<std::string_view>({"add", "clamp"}); }

/// Three roundings of one formula: published codes differ here, and in bfloat16 by 2-9 %.
///   scaled_before  B = rd(rd(bA) + rd(rd(cA) A)), X' = rd(rd(aX) + rd(BX))     (Jordan, Moonlight, NorMuon)
///   scaled_after   B = rd(rd(bA) + rd(c rd(A A))), X' as above                  (dion, nanochat)
///   fused          B = rd(bA + c (A A)), X' = rd(aX + (B X))                    (torch.optim.Muon, modded-nanogpt)
enum class QuinticRounding { scaled_before, scaled_after, fused };
constexpr auto enum_names(QuinticRounding) {
  return std::to_array<std::string_view>({"scaled_before", "scaled_after", "fused"});
}

/// textbook  A = X X^T and X' = aX + (bA + cA^2) X in every step.
/// gram      the same polynomials on R = X X^T alone, X only at the restarts and at the end: fewer operations where one
///           side is longer. Rounding is `fused`; a square X takes the textbook form.
///             Z = bR + cR^2;  Q <- QZ + aQ (at first Z + aI);  R <- Z(RZ + aR) + a(RZ + aR);  at last X <- QX
///           Before step t of `restarts`: X <- QX, R <- X X^T, Q <- I. In half precision R has spurious eigenvalues
///           near -4e-4 that grow without bound: restarts are not optional there.
///           Source  Dao-AILab/gram-newton-schulz.  Checked  parity/ortho_gram_*, linalg/polar.
enum class PolarIteration { textbook, gram };
constexpr auto enum_names(PolarIteration) { return std::to_array<std::string_view>({"textbook", "gram"}); }

struct NewtonSchulzOptions {
  PolynomialSchedule schedule;
  double eps = 1e-7;
  EpsMode eps_mode = EpsMode::add;
  QuinticRounding rounding = QuinticRounding::fused;
  PolarIteration iteration = PolarIteration::textbook;
  std::vector<int64_t> restarts = {2};  // steps counted from 0; 0 and steps past the end do nothing
};

/// [.., m, n] -> [.., m, n] in the dtype of x (which is the compute dtype). Never changes or aliases x. Zero maps to 0.
///
/// Where the schedule asks for aol: with Y = X / |X|_F, diag(s) Y takes the place of Y, s_i = max(sum_j |Y Y^T|_ij,
/// eps)^(-1/2). The published code takes the raw X, where the same eps leaves 46 % of the norm of a 64 x 256 Gaussian
/// with |X|_F = 1e-5.
/// AOL changes the polar factor: by 0.5 % (Gaussian, aspect 4) to 7 % (rows from 1 to 1e-2).
Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options);

}  // namespace schatten
