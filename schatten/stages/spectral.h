// Stages that act on singular values only: U S V^T -> U f(S) V^T.
#pragma once
#include <schatten/linalg/polar.h>
#include <schatten/linalg/spectral_map.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// Dtype in which a spectral map is computed. `automatic`: for iterations bfloat16 where the CPU has the instructions
/// for it, else float32; factorisations (SVD, eigenvalues, Cholesky) know no bfloat16. float64 inputs stay float64.
enum class ComputeDtype { automatic, bfloat16, float32, float64 };
constexpr auto enum_names(ComputeDtype) {
  return std::to_array<std::string_view>({"auto", "bfloat16", "float32", "float64"});
}
bool cpu_multiplies_bfloat16();
/// What `automatic` means for an iteration on this machine.
at::ScalarType compute_dtype(ComputeDtype choice, at::ScalarType input);

/// The (approximate) polar factor: every singular value towards 1.
///   U = NS_T(X / |X|_F),  X <- a X + b (X X^T) X + c (X X^T)^2 X per step        [.., m, n]
/// `coefficients`, one (a, b, c) per step, take the place of a named schedule; a set that diverges or flips signs is
/// refused. iteration = gram works on X X^T alone between restarts: see linalg/polar.h.
/// Exact twin  sigma -> 1.
/// State     none.   Locality  matrix.
/// Source    Jordan et al. 2024 (Muon); roundings: see linalg/polar.h.
/// Checked   parity/ortho_*, keller_muon_*, torch_muon_*, moonlight_muon_*, identity/*, law/*.
struct Orthogonalize {
  std::string schedule = "quintic";
  int steps = 0;
  double eps = 1e-7;
  EpsMode eps_mode = EpsMode::add;
  QuinticRounding rounding = QuinticRounding::fused;
  ComputeDtype compute = ComputeDtype::automatic;
  PolarIteration iteration = PolarIteration::textbook;
  std::vector<int64_t> restarts = {2};
  std::vector<std::vector<double>> coefficients{};
  double norm_margin = 0;
  void fields(auto&& visit) {
    visit("schedule", schedule,
          "quintic, cubic, you, modded, polar_express, gram105, aol_a, aol_b, ...; or exact (SVD)");
    visit("steps", steps, "iterations; 0: as many as the schedule was published with (quintic: 5)");
    visit("eps", eps, "guards the division by the Frobenius norm");
    visit("eps_mode", eps_mode, "add: |X|_F + eps; clamp: max(|X|_F, eps)");
    visit("rounding", rounding, "scaled_before (Jordan), scaled_after (dion), fused (torch)");
    visit("compute", compute, "auto, bfloat16, float32, float64");
    visit("iteration", iteration, "textbook, gram (fewer operations where one side is longer)");
    visit("restarts", restarts, "gram: steps, from 0, before which X X^T is formed anew");
    visit("coefficients", coefficients, "[[a, b, c], ...] in place of a schedule and its steps");
    visit("norm_margin", norm_margin, "X is divided by this times |X|_F; 0: the schedule's own");
  }
};
Stage orthogonalize(const Orthogonalize& options);

enum class PowerMethod { automatic, svd, eigh, rational, released, rank, streaming };
constexpr auto enum_names(PowerMethod) {
  return std::to_array<std::string_view>({"auto", "svd", "eigh", "rational", "released", "rank", "streaming"});
}

/// Every singular value to the power p: between the gradient (p = 1) and its polar factor (p = 0).
///   U = L S^p R^T  for X = L S R^T                                                [.., m, n]
/// Exact twin  sigma -> sigma^p.
/// State     none; streaming: V [n, min(m, n)].   Locality  matrix.
/// Methods   svd and eigh (float64 Gram) to rounding; rational: four Cholesky inverses of shifted Gram
///           matrices, within `RationalPower::error` above `interval` times the largest singular value,
///           linear to 0 below. auto: rational, and svd for float64.
/// Released  three more, as HTMuon's code has them; to repeat its runs with:
///           released   polar factor times Newton-Schulz roots of X^T X; p becomes the next power of two, 2^(1-J), and
///                      even that holds for large singular values only: 28 to 86 % off for sigma_k ~ 1/k, p = 1/8;
///           rank       the k-th largest singular value becomes k^-p, whatever it was: no power of sigma;
///           streaming  sigma^p in a basis V carried along, one subspace iteration a step: about 20 % off on moving
///                      momentum, less where it rests.
/// Source    HTMuon, arXiv:2603.10067 (no normaliser before or after); rational form: this project.
/// Checked   parity/ortho_htmuon_*, htmuon_*, identity/{htmuon_*, spectral_*}, linalg/{spectral,released}_power, law/*.
struct SpectralPower {
  double power = 0.125;
  PowerMethod method = PowerMethod::automatic;
  double interval = 5e-3;
  int poles = 4;
  int ns_steps = 5, root_steps = 5;
  double root_eps = 1e-6;
  ComputeDtype compute = ComputeDtype::automatic;
  void fields(auto&& visit) {
    visit("power", power, "exponent p in [0, 1]");
    visit("method", method, "auto, svd, eigh, rational; as released: released, rank, streaming");
    visit("interval", interval, "rational: accurate above this share of the largest singular value");
    visit("poles", poles, "rational: Cholesky inverses per step");
    visit("ns_steps", ns_steps, "released: iterations of the polar factor");
    visit("root_steps", root_steps, "released: iterations of every square root");
    visit("root_eps", root_eps, "released: added to the Gram matrix, whatever its size");
    visit("compute", compute, "auto (float32, float64 for float64 weights), float32, float64; released: bfloat16, too");
  }
};
Stage spectral_power(const SpectralPower& options);

/// The spectral map that a stage of this name and options approximates: its oracle. (`rank` has none.)
SpectralMap exact_twin(const SpectralPower& options);

}  // namespace schatten
