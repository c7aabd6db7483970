// Normalisation by running mean squares of the update itself: NorMuon's neurons, AdaMuon's entries.
#pragma once
#include <schatten/linalg/polar.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// What has a mean square of its own. longer: rows where m >= n, else columns.
enum class VarianceOf { rows, longer, entries };
constexpr auto enum_names(VarianceOf) { return std::to_array<std::string_view>({"rows", "longer", "entries"}); }

/// root: sqrt(v) + eps; inside: sqrt(v + eps); floor: sqrt(max(v, eps)).
enum class VarianceEps { root, inside, floor };
constexpr auto enum_names(VarianceEps) { return std::to_array<std::string_view>({"root", "inside", "floor"}); }

/// keep: |U|_F = |X|_F; rms: the RMS of U's entries is a given number.
enum class UpdateSize { keep, rms };
constexpr auto enum_names(UpdateSize) { return std::to_array<std::string_view>({"keep", "rms"}); }

/// Divides rows (columns, entries) by the root of their running mean square, then gives the update its size.
///   v <- beta2 v + (1 - beta2) mean_j X_ij^2                 [m, 1]   (longer: or [1, n]; entries: [m, n], no mean)
///   Y  = X / (sqrt(v) + eps)                                 [.., m, n]
///   U  = |X|_F Y / (|Y|_F + size_eps)  or  rms sqrt(mn) Y / (|Y|_F + size_eps)
/// No bias correction: the size that is given back cancels it.
/// State     exp_avg_sq [m, 1] ([1, n], [m, n]), float32 at least: bfloat16 stops averaging.   Locality  matrix.
/// Source    NorMuon, arXiv:2510.05491 (zichongli5/NorMuon, modded-nanogpt, dion); AdaMuon, arXiv:2507.11005.
/// Differs   conv filters count as their flattened matrix. released_conv: rows of each kernel [kh, kw] and its norm for
///           `rows` (NorMuon's code); rms sqrt(min max) of the four dims for sqrt(mn) (AdaMuon's code).
/// Checked   parity/normuon_*, htrepo_normuon_*, dion_normuon_*, adamuon_*, identity/normuon_*, adamuon_*, law/*.
struct NormalizeVariance {
  VarianceOf of = VarianceOf::rows;
  double beta2 = 0.95;
  double eps = 1e-10;
  VarianceEps eps_form = VarianceEps::root;
  UpdateSize size = UpdateSize::keep;
  double rms = 0.2;
  double size_eps = 1e-10;
  EpsMode size_eps_mode = EpsMode::add;
  bool released_conv = false;
  void fields(auto&& visit) {
    visit("of", of, "rows, longer (rows or columns, whichever are more), entries");
    visit("beta2", beta2, "decay of the mean squares, in [0, 1)");
    visit("eps", eps, "guards the division by their root");
    visit("eps_form", eps_form, "root: sqrt(v) + eps; inside: sqrt(v + eps); floor: sqrt(max(v, eps))");
    visit("size", size, "keep: the norm that came in; rms: a given root mean square");
    visit("rms", rms, "that root mean square");
    visit("size_eps", size_eps, "guards the division by the norm");
    visit("size_eps_mode", size_eps_mode, "add, clamp");
    visit("released_conv", released_conv, "conv filters as in the released codes");
  }
  std::string name() const { return "normalize_variance"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage normalize_variance(const NormalizeVariance& options);

}  // namespace schatten
