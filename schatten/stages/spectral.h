// Stages that act on singular values only: U S V^T -> U f(S) V^T.
#pragma once
#include <schatten/linalg/polar.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// Dtype in which a spectral map is computed. `automatic`: for iterations bfloat16 where the CPU multiplies it faster
/// than float32 and on every other device, else float32; factorisations (SVD, eigenvalues, Cholesky) know no bfloat16.
/// float64 inputs stay float64.
/// bfloat16x2: two bfloat16 numbers per entry, 16 bits, where the CPU has AMX; else float32.
enum class ComputeDtype { automatic, bfloat16, bfloat16x2, float32, float64 };
constexpr auto enum_names(ComputeDtype) {
  return std::to_array<std::string_view>({"auto", "bfloat16", "bfloat16x2", "float32", "float64"});
}
/// What `automatic` means for an iteration: on a CPU by its instructions, on any other device bfloat16.
at::ScalarType compute_dtype(ComputeDtype choice, at::ScalarType input, Isa isa, at::Device device = at::kCPU);

/// The (approximate) polar factor: every singular value towards 1.
///   U = NS_T(X / |X|_F),  X <- a X + b (X X^T) X + c (X X^T)^2 X per step        [.., m, n]
/// `coefficients`, one (a, b, c) per step, take the place of a named schedule; a set that diverges or flips signs is
/// refused. The ways to compute it (textbook, triangle, gram) and what each costs: linalg/polar.h, `schatten bench --plan`.
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
  PolarIteration iteration = PolarIteration::automatic;
  std::vector<int64_t> restarts{};
  std::vector<std::vector<double>> coefficients{};
  double norm_margin = 0;
  void fields(auto&& visit) {
    visit("schedule", schedule,
          "quintic, cubic, you, modded, polar_express, gram105, aol_a, aol_b, ...; or exact (SVD)");
    visit("steps", steps, "iterations; 0: as many as the schedule was published with (quintic: 5)");
    visit("eps", eps, "guards the division by the Frobenius norm");
    visit("eps_mode", eps_mode, "add: |X|_F + eps; clamp: max(|X|_F, eps)");
    visit("rounding", rounding, "textbook: scaled_before (Jordan), scaled_after (dion), fused (torch)");
    visit("compute", compute, "auto, bfloat16, bfloat16x2, float32, float64");
    visit("iteration", iteration, "auto (the cheapest for the shape), textbook, triangle, gram");
    visit("restarts", restarts,
          "gram: steps, from 0, before which X X^T is formed anew; []: as the dtype needs, [0]: never");
    visit("coefficients", coefficients, "[[a, b, c], ...] in place of a schedule and its steps");
    visit("norm_margin", norm_margin, "X is divided by this times |X|_F; 0: the schedule's own");
  }
};
Stage orthogonalize(const Orthogonalize& options);
/// What the iteration is told. UsageError for options that make no sense.
NewtonSchulzOptions newton_schulz_options(const Orthogonalize& options);

}  // namespace schatten
