// Full-matrix statistics of rows and columns.
#pragma once
#include <schatten/linalg/multiply.h>
#include <schatten/stages/spectral.h>

namespace schatten {

enum class ShampooSides { both, smaller };
constexpr auto enum_names(ShampooSides) { return std::to_array<std::string_view>({"both", "smaller"}); }

/// How the statistics grow: Adagrad's sum (Gupta et al.), or an average that forgets.
enum class Accumulation { sum, ema };
constexpr auto enum_names(Accumulation) { return std::to_array<std::string_view>({"sum", "ema"}); }

/// Preconditions rows and columns by roots of their second moments.
///   sum  L <- L + G G^T,  R <- R + G^T G      ema  L <- beta L + (1 - beta) G G^T, R likewise, / (1 - beta^t) when read
///   both     U = (L + eps I)^(-1/4) G (R + eps I)^(-1/4)                              [.., m, n]
///   smaller  U = (L + eps I)^(-1/2) G  for m <= n,  G (R + eps I)^(-1/2)  for m > n
/// Where only one side is at most `max_dim` long, that one takes the power -1/2.
/// The first update is the polar factor of G (eps = 0): Shampoo is Muon with memory.
/// Roots come from eigenvalues, none counted smaller than rounding (eps_machine d lambda_max); they are renewed in each
/// of the first `every` steps, as long as statistics may lack rank, then at every k-th.
/// State     L, L_root [m, m] and R, R_root [n, n] of the sides in use (roots only where every > 1).   Locality  matrix.
/// Source    Gupta et al. 2018, arXiv:1802.09568; ema as Anil et al. 2020, arXiv:2002.09018.
/// Differs   convolution filters as flattened matrices, not one factor per dimension; bias correction of the average.
/// Checked   identity/shampoo_*, law/*.
struct Shampoo {
  ShampooSides sides = ShampooSides::both;
  Accumulation accumulation = Accumulation::ema;
  double beta = 0.95;
  double eps = 1e-12;
  int every = 10;
  int64_t max_dim = 10000;
  ComputeDtype compute = ComputeDtype::automatic;
  Products products = Products::automatic;
  void fields(auto&& visit) {
    visit("sides", sides, "both, smaller (one-sided)");
    visit("accumulation", accumulation, "sum (Gupta et al.), ema");
    visit("beta", beta, "ema: decay of the statistics, in [0, 1)");
    visit("eps", eps, "added to their eigenvalues");
    visit("every", every, "steps between two renewals of the roots");
    visit("max_dim", max_dim, "longer sides are left alone");
    visit("compute", compute, "of the eigenvalues: auto (the statistics' own dtype), float32, float64");
    visit("products", products, kProductsHelp);
  }
};
Stage shampoo_precondition(const Shampoo& options);

}  // namespace schatten
