#include <ATen/ATen.h>
#include <schatten/diagnostics/marchenko_pastur.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace schatten {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double variance_of_entries(const Tensor& matrix) {
  return matrix.detach().to(at_least_float32(matrix.scalar_type())).var(false).item<double>();
}

}  // namespace

MarchenkoPastur marchenko_pastur(const Tensor& matrix, const std::vector<double>& singular_values) {
  if (singular_values.empty()) return {kNaN, kNaN, kNaN, 0};
  const auto least = static_cast<double>(std::min(matrix.size(0), matrix.size(1)));
  const auto most = static_cast<double>(std::max(matrix.size(0), matrix.size(1)));
  const double scale = variance_of_entries(matrix) * most, root = std::sqrt(least / most);
  const double edge = (1 + root) * (1 + root);
  const double fluctuation = std::sqrt(root * std::pow(edge, 2.0 / 3) * std::pow(least, -2.0 / 3));
  const double threshold = std::sqrt(scale * (edge + fluctuation)), largest = singular_values.front();
  const auto spikes =
      std::count_if(singular_values.begin(), singular_values.end(), [&](double s) { return s > threshold; });
  return {.lower = scale * (1 - root) * (1 - root),
          .upper = scale * edge,
          .soft_rank = largest > 0 ? scale * edge / (largest * largest) : kNaN,
          .spikes = spikes};
}

}  // namespace schatten
