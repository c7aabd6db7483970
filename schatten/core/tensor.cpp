#include <c10/core/ScalarType.h>
#include <schatten/core/tensor.h>

#include <algorithm>

namespace schatten {

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return "float32";
    case at::kDouble: return "float64";
    case at::kHalf: return "float16";
    default: break;
  }
  std::string name = c10::toString(dtype);  // BFloat16, Long, ...
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

}  // namespace schatten
