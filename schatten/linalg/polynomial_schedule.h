// Odd polynomials for Newton-Schulz iterations: the published coefficient sets and the check that wrong ones fail.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// What happens to X before the first step. aol: X <- diag(s) X with s_i = (sum_j |X X^T|_ij)^(-1/2), short side first.
enum class Preconditioner { none, aol };
constexpr auto enum_names(Preconditioner) { return std::to_array<std::string_view>({"none", "aol"}); }

/// X <- a X + b (X X^T) X + c (X X^T)^2 X, one (a, b, c) per step, after dividing X by `norm_margin` |X|_F.
/// Constants travel with their conditions.
struct PolynomialSchedule {
  std::string name;
  std::vector<std::array<double, 3>> coefficients;
  double norm_margin = 1.0;
  std::array<double, 2> band{};  // where singular values in [1e-2, 1] of the scaled input end up, to four decimals
  std::string source;
  Preconditioner preconditioner = Preconditioner::none;  // as published with these coefficients

  /// The scalar composition p_T o ... o p_1 at s (s already scaled): its own oracle.
  double operator()(double s) const;
};

/// A published schedule; throws UsageError naming the known ones. `steps` <= 0: as published. Otherwise the first
/// `steps` rows; past the last row it repeats where the source says so (quintic, cubic, polar_express), else
/// UsageError.
PolynomialSchedule polynomial_schedule(std::string_view name, int steps = 0);
std::vector<std::string> polynomial_schedule_names();

/// A caller's own coefficients, checked by `check_schedule`.
PolynomialSchedule polynomial_schedule(std::vector<std::array<double, 3>> coefficients, double norm_margin = 1.0);

/// Refuses coefficients that diverge or flip a sign on (0, 1]: on a grid, each step must stay in (0, 2) on the image of
/// the steps before it. The UsageError names the step, its input and its value.
void check_schedule(const PolynomialSchedule& schedule);

/// Smallest and largest value on [1e-2, 1], rounded outwards to four decimals.
std::array<double, 2> output_band(const PolynomialSchedule& schedule);

}  // namespace schatten
