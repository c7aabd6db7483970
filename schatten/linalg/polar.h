// Newton-Schulz iterations towards the polar factor U V^T.
#pragma once
#include <c10/core/Device.h>
#include <schatten/core/tensor.h>
#include <schatten/kernels/products.h>
#include <schatten/linalg/polynomial_schedule.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// How eps enters the normalisation: X / (|X|_F + eps) or X / max(|X|_F, eps).
enum class EpsMode { add, clamp };
constexpr auto enum_names(EpsMode) { return std::to_array<std::string_view>({"add", "clamp"}); }

/// Three roundings of one formula, where `textbook` computes it: published codes differ here, and in bfloat16 by 2-9 %.
///   scaled_before  B = rd(rd(bA) + rd(rd(cA) A)), X' = rd(rd(aX) + rd(BX))     (Jordan, Moonlight, NorMuon)
///   scaled_after   B = rd(rd(bA) + rd(c rd(A A))), X' as above                  (dion, nanochat)
///   fused          B = rd(bA + c (A A)), X' = rd(aX + (B X))                    (torch.optim.Muon, modded-nanogpt)
enum class QuinticRounding { scaled_before, scaled_after, fused };
constexpr auto enum_names(QuinticRounding) {
  return std::to_array<std::string_view>({"scaled_before", "scaled_after", "fused"});
}

/// Several ways to the same polynomial of X.
///   textbook  A = X X^T and X' = aX + (bA + cA^2) X in every step, by ATen, rounded as published.
///   triangle  the same, A and bA + cA^2 by one triangle of blocks each; rounded once per entry, as `fused`.
///   gram      the same polynomials on R = X X^T alone, X only at the restarts and at the end: fewer operations where one
///             side is longer.
///               Z = bR + cR^2;  Q <- QZ + aQ (at first Z + aI);  R <- Z(RZ + aR) + a(RZ + aR);  at last X <- QX
///             Before step t of `restarts`: X <- QX, R <- X X^T, Q <- I. In half precision R has spurious eigenvalues
///             near -4e-4 that grow without bound: restarts are not optional there. A square X takes `triangle`.
///             Source  Dao-AILab/gram-newton-schulz.  Checked  parity/ortho_gram_*, linalg/polar.
///   auto      what `plan_polar` finds cheapest.
/// triangle and gram go by the kernels of schatten/kernels/products.h; where those know the dtype, the instructions or
/// the device not, by ATen: batches, float64, float16, accelerators, CPUs without AVX2. There, too, one triangle of a
/// symmetric product is enough in float32 and float64 (symmetric_product_impl.h).
enum class PolarIteration { automatic, textbook, triangle, gram };
constexpr auto enum_names(PolarIteration) {
  return std::to_array<std::string_view>({"auto", "textbook", "triangle", "gram"});
}

struct NewtonSchulzOptions {
  PolynomialSchedule schedule;
  double eps = 1e-7;
  EpsMode eps_mode = EpsMode::add;
  QuinticRounding rounding = QuinticRounding::fused;
  PolarIteration iteration = PolarIteration::textbook;
  /// gram: steps counted from 0; 0 and steps past the end do nothing. Empty: as the arithmetic needs, see plan_polar.
  std::vector<int64_t> restarts = {2};
  bool split_bfloat16 = false;  // float32 input: products by two bfloat16 numbers per entry where that is faster
};

/// How one shape is computed, and what that should cost. A pure function of its arguments: the same on every rank and
/// after every resume.
struct PolarPlan {
  PolarIteration iteration = PolarIteration::textbook;
  Arithmetic arithmetic = Arithmetic::float32;  // of the kernels
  at::ScalarType dtype = at::kFloat;            // of ATen
  bool kernels = false;                         // by schatten/kernels; else by ATen
  std::vector<int64_t> restarts{};              // gram
  double seconds = 0;                           // predicted, one thread
  std::string describe() const;                 // "gram, bfloat16, restart before step 3"
};
/// Every way that is possible, the cheapest first. Costs go by a table of rates per instruction set (see polar_plan.cpp);
/// they are not measured again behind anybody's back.
/// Restarts of gram: as few as keep what rounding adds to R from growing by more than 20 (bfloat16), 200 (bfloat16x2) or
/// 2000 (float32) between them; growth of the quintic is 12 a step. Then gram is as accurate as triangle to a factor of 2.
/// On another device than a CPU nothing is known but the number of operations.
std::vector<PolarPlan> polar_plans(int64_t rows, int64_t cols, at::ScalarType dtype, const NewtonSchulzOptions& options,
                                   Isa isa, at::Device device = at::kCPU);
/// The one that options.iteration asks for; the cheapest of all for `auto`.
PolarPlan plan_polar(int64_t rows, int64_t cols, at::ScalarType dtype, const NewtonSchulzOptions& options, Isa isa,
                     at::Device device = at::kCPU);

/// Products that a way takes on [n, m], n <= m: so many X X^T and as many B X, and so many of n x n.
struct PolarProducts {
  double wide = 0, square = 0;
  /// Multiplications and additions, where a symmetric product costs `share` of a full one.
  double operations(double n, double m, double share) const;
};
PolarProducts polar_products(PolarIteration iteration, double steps, size_t restarts);

/// True where bfloat16 products are faster than float32 ones with these instructions.
bool bfloat16_pays(Isa isa);

/// [.., m, n] -> [.., m, n] in the dtype of x, computed in `compute` (undefined: x's own). Never changes or aliases x. Zero maps to 0,
/// NaN and infinities to NaN.
///
/// Where the schedule asks for aol: with Y = X / |X|_F, diag(s) Y takes the place of Y, s_i = max(sum_j |Y Y^T|_ij,
/// eps)^(-1/2). The published code takes the raw X, where the same eps leaves 46 % of the norm of a 64 x 256 Gaussian
/// with |X|_F = 1e-5.
/// AOL changes the polar factor: by 0.5 % (Gaussian, aspect 4) to 7 % (rows from 1 to 1e-2).
Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options, Isa isa = this_isa(),
                     at::ScalarType compute = at::ScalarType::Undefined);

/// The same on plain memory, for those who have the norm already: `to` <- NS(from / norm), [rows, cols] both.
/// The schedule must have no preconditioner and the plan must have kernels. `to` may be `from`.
void newton_schulz_into(const PolarPlan& plan, const NewtonSchulzOptions& options, Isa isa, const Plain& from,
                        double norm, int64_t rows, int64_t cols, const Plain& to);

}  // namespace schatten
