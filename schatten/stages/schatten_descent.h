// Steepest descent under a Schatten norm.
#pragma once
#include <schatten/stages/stage.h>

#include <limits>

namespace schatten {

/// How long a step in the direction L S^p R^T is, p = 1 / (q - 1), |.|_r the l_r norm of the singular values:
enum class DescentNorm {
  lmo,       // / |S|_(1+p)^p: the Schatten-q norm of U is 1 (linear minimisation over the unit ball)
  steepest,  // * |S|_(1+p)^(1-p): U minimises <G, -U> + |U|_q^2 / 2, as large as G in the dual norm
  rms,       // * sqrt(min(m, n)) / |S^p|_2: as large as Muon's update
  spec,      // / S_1^p: the largest singular value is 1
  none,      // as it is: HTMuon's
};
constexpr auto enum_names(DescentNorm) {
  return std::to_array<std::string_view>({"lmo", "steepest", "rms", "spec", "none"});
}

/// U = c L S^p R^T for X = L S R^T, p = 1 / (q - 1), c as `norm` says                          [.., m, n]
/// For `lmo`, <X, U> = |X|_q* with 1/q + 1/q* = 1.
/// q = inf: the polar factor (Muon); q = 9: HTMuon's p = 1/8; q = 2: X / |X|_F.
/// By an SVD in the input's dtype (float32 at least); singular values below eps max(m, n) S_1 map to 0.
/// State     none.   Locality  matrix.
/// Source    the dual-norm form that HTMuon, arXiv:2603.10067, and Muon^p, arXiv:2606.13867, refer to.
/// Checked   identity/schatten_descent_*, law/*.
struct SchattenDescent {
  double q = 9;
  DescentNorm norm = DescentNorm::lmo;
  void fields(auto&& visit) {
    visit("q", q, "norm in [2, inf]: inf is Muon's, 2 Frobenius'");
    visit("norm", norm, "lmo (unit Schatten-q norm), steepest, rms (as large as Muon's), spec, none");
  }
  std::string name() const { return "schatten_descent"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  std::string decided(const Bucket& b, Isa isa) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage schatten_descent(const SchattenDescent& options);

}  // namespace schatten
