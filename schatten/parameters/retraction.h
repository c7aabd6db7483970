// Retraction: how a W whose rows (or columns) are unit vectors is stepped and kept so.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/parameter_info.h>
#include <schatten/core/tensor.h>

#include <array>

namespace schatten {

enum class RetractionForm {
  none,
  project,          // w <- N(w - lr u)                                     (nGPT)
  tangent,          // w <- N(w - lr t),  t = u - <w, u> w
  geodesic_fixed,   // w <- w cos a - e sin a,  e = t / |t|,  a = lr
  geodesic_scaled,  // the same with a = lr |t|
  plan_fixed,       // W <- W cos a + U sin a,  a = lr: as the nGPT-Muon plan wrote it. Uphill, leaves the sphere.
  plan_scaled,      // the same with a = lr |U|_F
};
constexpr auto enum_names(RetractionForm) {
  return std::to_array<std::string_view>(
      {"none", "project", "tangent", "geodesic_fixed", "geodesic_scaled", "plan_fixed", "plan_scaled"});
}

/// What is of unit length: `model` goes by ParameterInfo::unit_axis and leaves the rest alone.
enum class UnitAxis { model, rows, cols };
constexpr auto enum_names(UnitAxis) { return std::to_array<std::string_view>({"model", "rows", "cols"}); }

/// W <- retract(decay(W) - lr U), row by row; norms and angles in float32 at least.
/// `every`: project and tangent renormalise at every k-th step of the parameter only; the geodesics stay on the sphere
/// by themselves and renormalise then against rounding (0: never).
/// Source   nGPT, arXiv:2410.01131; corrected sphere steps: this project. plan_*: dnhkng/nGPT-muon, kept to show the
///          difference (wrong sign, and U is neither tangent nor unit).
/// Checked  identity/retraction_*, law/*.
struct Retraction {
  RetractionForm form = RetractionForm::none;
  UnitAxis axis = UnitAxis::model;
  int every = 1;
  void fields(auto&& visit) {
    visit("form", form,
          "none, project, tangent, geodesic_fixed, geodesic_scaled; plan_fixed, plan_scaled (wrong sign)");
    visit("axis", axis, "model (what the model keeps unit), rows, cols");
    visit("every", every, "renormalise at every k-th step; 0: never");
  }
  bool active() const { return form != RetractionForm::none; }
  /// True for forms that start from unit rows: decay has no place there.
  bool geodesic() const { return form >= RetractionForm::geodesic_fixed; }
  /// W - lr U, or what stands for it on the sphere; in place.
  void move(Tensor& param, const Tensor& update, double lr, const ParameterInfo& info) const;
  /// Back to unit length where this step is one of those.
  void renormalize(Tensor& param, const ParameterInfo& info, int64_t step) const;
};

/// Every row (axis rows) or column of unit length; rows of zeros stay.
Tensor unit_along(const Tensor& matrix, UnitAxis axis);

/// Checks `every` >= 0.
Retraction make_retraction(const Retraction& options);

}  // namespace schatten
