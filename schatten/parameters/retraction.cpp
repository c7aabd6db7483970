#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/parameters/retraction.h>

#include <cmath>
#include <string>

namespace schatten {

namespace {

/// 1: rows are unit, 0: columns, -1: nothing is.
int unit_dim(UnitAxis axis, const ParameterInfo& info) {
  if (info.shape.size() < 2) return -1;
  if (axis == UnitAxis::model) return info.unit_axis;
  return axis == UnitAxis::rows ? 1 : 0;
}

Tensor wide_enough(const Tensor& t) { return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat); }

Tensor norms(const Tensor& t, int dim) { return at::linalg_vector_norm(t, 2, at::IntArrayRef({dim}), true); }

/// The part of u that does not lengthen w.
Tensor tangent(const Tensor& u, const Tensor& w, int dim) { return u - w * (u * w).sum(dim, true); }

Tensor along_the_sphere(const Tensor& w, const Tensor& t, double lr, bool scaled, int dim) {
  const Tensor length = norms(t, dim);
  const Tensor angle = scaled ? length * lr : at::full_like(length, lr);
  const Tensor moved = w * angle.cos() - t / length.clamp_min(1e-30) * angle.sin();
  return at::where(length > 1e-30, moved, w);  // nowhere to go
}

}  // namespace

Tensor unit_along(const Tensor& matrix, UnitAxis axis) {
  const Tensor length = norms(matrix, axis == UnitAxis::rows ? 1 : 0);
  return matrix / length.masked_fill(length == 0, 1);
}

Retraction make_retraction(const Retraction& o) {
  if (o.every < 0) fail_usage({"retract", "every >= 0", std::to_string(o.every), "1 renormalises at every step."});
  return o;
}

void Retraction::move(Tensor& param, const Tensor& update, double lr, const ParameterInfo& info) const {
  const int dim = unit_dim(axis, info);
  if (!active() || form == RetractionForm::project || dim < 0) {
    param.add_(update.to(param.scalar_type()), -lr);
    return;
  }
  const Tensor w = wide_enough(param), u = update.to(w.scalar_type());
  switch (form) {
    case RetractionForm::plan_fixed: param.copy_(w * std::cos(lr) + u * std::sin(lr)); return;
    case RetractionForm::plan_scaled: {
      const Tensor angle = u.norm() * lr;  // stays where it is: no step waits for a device
      param.copy_(w * angle.cos() + u * angle.sin());
      return;
    }
    case RetractionForm::tangent: param.copy_(w - tangent(u, w, dim) * lr); return;
    default: break;
  }
  param.copy_(along_the_sphere(w, tangent(u, w, dim), lr, form == RetractionForm::geodesic_scaled, dim));
}

void Retraction::renormalize(Tensor& param, const ParameterInfo& info, int64_t step) const {
  const int dim = unit_dim(axis, info);
  if (!active() || dim < 0 || every == 0 || step % every != 0) return;
  param.copy_(unit_along(wide_enough(param), dim == 1 ? UnitAxis::rows : UnitAxis::cols));
}

}  // namespace schatten
