// Stages that multiply by one number.
#pragma once
#include <schatten/core/shape_scale.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// U = c(m, n) X. State none. Locality elementwise.
/// Source  Jordan's Muon; Moonlight, arXiv:2502.16982; Bernstein, arXiv:2409.20325.
/// Checked parity/keller_muon_*, moonlight_muon_*, torch_muon_*, law/*.
struct ScaleByShape {
  ShapeScale shape = ShapeScale::jordan;
  void fields(auto&& visit) { visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein"); }
  std::string name() const { return "scale_by_shape"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_shape(const ScaleByShape& options);

/// Makes the update as large as an orthogonal one, so that recipes can share a learning rate.
///   U = sqrt(min(m, n)) X / |X|_F,  0 for X = 0                                   [.., m, n]
/// State none. Locality matrix. Checked identity/htmuon_rms, law/*.
struct NormalizeUpdate {
  void fields(auto&&) {}
  std::string name() const { return "normalize_update"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage normalize_update();

}  // namespace schatten
