#include <ATen/ATen.h>
#include <schatten/stages/scaling.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace schatten {

Stage scale_by_shape(const ScaleByShape& options) { return options; }
Tensor ScaleByShape::apply(const Tensor& u, State&, const Step& step) const {
  return u.mul(shape_factor(shape, step.parameter));
}
Tensor ScaleByShape::apply_in_place(const Tensor& u, State&, const Step& step) const {
  const double factor = shape_factor(shape, step.parameter);
  return factor == 1 ? u : u.mul_(factor);
}

Stage normalize_update() { return NormalizeUpdate{}; }
Tensor NormalizeUpdate::apply(const Tensor& u, State&, const Step&) const {
  // Two divisions: |X|_F of a tiny matrix underflows when squared, its largest entry does not.
  const Tensor largest = u.abs().amax({-2, -1}, true).clamp_min(std::numeric_limits<double>::min());
  const Tensor x = u.div(largest.to(u.scalar_type()).clamp_min(std::numeric_limits<float>::min()));
  const Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef({-2, -1}), true);
  const auto rank = static_cast<double>(std::min(u.size(-2), u.size(-1)));
  return x.mul(std::sqrt(rank)).div(norm.clamp_min(1e-30));
}

}  // namespace schatten
