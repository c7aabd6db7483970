#include <schatten/core/parameter_info.h>

#include <functional>
#include <numeric>

namespace schatten {

std::string_view to_string(Role role) {
  switch (role) {
    case Role::hidden_matrix: return "hidden_matrix";
    case Role::embedding: return "embedding";
    case Role::head: return "head";
    case Role::gain: return "gain";
    case Role::bias: return "bias";
    case Role::conv: return "conv";
  }
  return "unknown";
}

int64_t ParameterInfo::numel() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}
int64_t ParameterInfo::rows() const { return shape.size() < 2 ? 1 : shape.front(); }
int64_t ParameterInfo::cols() const {
  if (shape.size() < 2) return numel();
  return std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<>());
}

}  // namespace schatten
