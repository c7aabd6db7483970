// How large an orthogonal update of an m x n matrix should be; named by author.
#pragma once
#include <schatten/core/parameter_info.h>

#include <array>
#include <string_view>

namespace schatten {

enum class ShapeScale {
  none,             // 1
  jordan,           // sqrt(max(1, m / n))
  jordan_released,  // the same on the last two dims of the unflattened tensor: 1 for square conv kernels
  moonlight,        // 0.2 sqrt(max(m, n)): the update's RMS is AdamW's
  bernstein,        // sqrt(m / n)
};
constexpr auto enum_names(ShapeScale) {
  return std::to_array<std::string_view>({"none", "jordan", "jordan_released", "moonlight", "bernstein"});
}
double shape_factor(ShapeScale scale, const ParameterInfo& parameter);

}  // namespace schatten
