// Newton-Schulz iterations towards the polar factor U V^T.
#pragma once
#include <schatten/core/tensor.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// X <- a X + b (X X^T) X + c (X X^T)^2 X, one (a, b, c) per step, after dividing X by `norm_margin` |X|_F.
/// Constants travel with their conditions.
struct PolynomialSchedule {
  std::string name;
  std::vector<std::array<double, 3>> coefficients;
  double norm_margin = 1.0;
  std::array<double, 2> band{};  // where singular values in [1e-2, 1] of the scaled input end up
  std::string source;

  /// The scalar composition p_T o ... o p_1 at s (s already scaled): its own oracle.
  double operator()(double s) const;
};

/// "quintic" (Jordan's), "cubic"; throws UsageError naming the known ones. `steps` <= 0: as published.
PolynomialSchedule polynomial_schedule(std::string_view name, int steps = 0);
std::vector<std::string> polynomial_schedule_names();

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

struct NewtonSchulzOptions {
  PolynomialSchedule schedule;
  double eps = 1e-7;
  EpsMode eps_mode = EpsMode::add;
  QuinticRounding rounding = QuinticRounding::fused;
};

/// [.., m, n] -> [.., m, n] in the dtype of x (which is the compute dtype). Never aliases x. Zero maps to zero.
Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options);

}  // namespace schatten
