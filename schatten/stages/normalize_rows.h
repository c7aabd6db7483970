// Rows of unit length: what RMNP puts in the place of an orthogonal update.
#pragma once
#include <schatten/linalg/polar.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// Every output neuron's row divided by its length.
///   U_i = X_i / max(|X_i|, eps)   or   X_i / (|X_i| + eps)                         [.., m, n]
/// State     none.   Locality  row.
/// Source    RMNP, code Dominator-Index/RMNP@a662ebc (clamp); RNNP of TDCSZ327/HTmuon@fa85e59 (add).
/// Checked   parity/rmnp_*, rnnp_*, identity/rmnp_*, law/*.
struct NormalizeRows {
  double eps = 1e-12;
  EpsMode eps_mode = EpsMode::clamp;
  void fields(auto&& visit) {
    visit("eps", eps, "guards the division by the length, > 0");
    visit("eps_mode", eps_mode, "add, clamp");
  }
  std::string name() const { return "normalize_rows"; }
  Traits traits() const { return {.locality = Locality::row, .takes_vectors = false}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage normalize_rows(const NormalizeRows& options);

}  // namespace schatten
