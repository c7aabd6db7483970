#include <ATen/ATen.h>
#include <c10/core/ScalarType.h>
#include <schatten/core/tensor.h>

#include <algorithm>
#include <mutex>

namespace schatten {

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return "float32";
    case at::kDouble: return "float64";
    case at::kHalf: return "float16";
    case at::kLong: return "int64";
    case at::kByte: return "uint8";
    default: break;
  }
  std::string name = c10::toString(dtype);  // BFloat16, Long, ...
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

void choose_vector_kernels() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      const Tensor x = at::full({64}, 0.5, dtype);  // too short to be split among threads
      using Function = Tensor (*)(const Tensor&);
      for (const Function f : {Function(at::sqrt), Function(at::log), Function(at::log1p), Function(at::exp),
                               Function(at::sin), Function(at::cos), Function(at::tanh), Function(at::erf)})
        f(x);
    }
  });
}

}  // namespace schatten
