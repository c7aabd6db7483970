#include <schatten/core/shape_scale.h>

#include <algorithm>
#include <cmath>

namespace schatten {

double shape_factor(ShapeScale scale, const ParameterInfo& p) {
  const auto m = static_cast<double>(p.rows()), n = static_cast<double>(std::max<int64_t>(p.cols(), 1));
  switch (scale) {
    case ShapeScale::none: return 1;
    case ShapeScale::jordan: return std::sqrt(std::max(1.0, m / n));
    case ShapeScale::jordan_released: {
      if (p.shape.size() < 2) return 1;
      const auto last = static_cast<double>(p.shape[p.shape.size() - 1]);
      return std::sqrt(std::max(1.0, static_cast<double>(p.shape[p.shape.size() - 2]) / last));
    }
    case ShapeScale::moonlight: return 0.2 * std::sqrt(std::max(m, n));
    case ShapeScale::bernstein: return std::sqrt(m / n);
  }
  return 1;
}

}  // namespace schatten
