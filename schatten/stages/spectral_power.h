// Singular values to a power: U S V^T -> U S^p V^T.
#pragma once
#include <schatten/linalg/spectral_map.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/stages/spectral.h>
#include <schatten/stages/stage.h>

namespace schatten {

enum class PowerMethod { automatic, svd, eigh, rational, mixture, released, rank, streaming };
constexpr auto enum_names(PowerMethod) {
  return std::to_array<std::string_view>(
      {"auto", "svd", "eigh", "rational", "mixture", "released", "rank", "streaming"});
}

/// Every singular value to the power p: between the gradient (p = 1) and its polar factor (p = 0).
///   U = L S^p R^T  for X = L S R^T                                                [.., m, n]
/// Exact twin  sigma -> sigma^p.
/// Methods   svd        to rounding;
///           eigh       eigenvalues of the float64 Gram matrix, to rounding too, 1.3 to 4 times as fast;
///           rational   `poles` Cholesky inverses of shifted Gram matrices, ten times as fast: within
///                      `RationalPower::error` above `interval` times the largest singular value, linear to 0 below;
///                      where much lies below, `deflate` leading directions are mapped exactly and apart, and the
///                      interval begins at what is left (linalg/spectral_power.h);
///           mixture    products alone, for accelerators: p = 1/8, 1/4, 1/2 (linalg/mixture_power.h);
///           auto       svd in float64; in float32 rational, and mixture on an accelerator where it has a table.
/// State     V [min(m, n), deflate + 4] where rational may deflate: float32, a short side of 64 at the default;
///           streaming: V [n, min(m, n)].   Locality  matrix.
/// Released  three more, as HTMuon's code has them; to repeat its runs with:
///           released   polar factor times Newton-Schulz roots of X^T X; p becomes the next power of two, 2^(1-J), and
///                      even that holds for large singular values only: 28 to 86 % off for sigma_k ~ 1/k, p = 1/8;
///           rank       the k-th largest singular value becomes k^-p, whatever it was: no power of sigma;
///           streaming  sigma^p in a basis V carried along, one subspace iteration a step: about 20 % off on moving
///                      momentum, less where it rests.
/// Source    HTMuon, arXiv:2603.10067 (no normaliser before or after); rational form and mixture: this project.
/// Checked   parity/ortho_htmuon_*, htmuon_*, identity/{htmuon_*, spectral_*}, law/*,
///           linalg/{spectral,rational,released,mixture}_power.
struct SpectralPower {
  double power = 0.125;
  PowerMethod method = PowerMethod::automatic;
  double interval = 5e-3;
  int poles = 4;
  int deflate = 12;
  int ns_steps = 5, root_steps = 5;
  double root_eps = 1e-6;
  ComputeDtype compute = ComputeDtype::automatic;
  void fields(auto&& visit) {
    visit("power", power, "exponent p in [0, 1]");
    visit("method", method, "auto, svd, eigh, rational, mixture; as released: released, rank, streaming");
    visit("interval", interval, "rational: accurate above this share of the largest singular value");
    visit("poles", poles, "rational: Cholesky inverses per step");
    visit("deflate", deflate, "rational: leading directions mapped apart where many values lie below; 0: never");
    visit("ns_steps", ns_steps, "released: iterations of the polar factor");
    visit("root_steps", root_steps, "released: iterations of every square root");
    visit("root_eps", root_eps, "released: added to the Gram matrix, whatever its size");
    visit("compute", compute, kPowerComputeHelp);
  }
  static constexpr const char* kPowerComputeHelp =
      "auto (float64 for float64 weights, else bfloat16x2 with AMX where it does no harm, and float32), bfloat16x2, "
      "float32, float64; released: bfloat16, too";
};
Stage spectral_power(const SpectralPower& options);

/// The spectral map that a stage of this name and options approximates: its oracle. (`rank` has none.)
SpectralMap exact_twin(const SpectralPower& options);

}  // namespace schatten
