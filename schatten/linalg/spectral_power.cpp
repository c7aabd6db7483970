#include <ATen/ATen.h>
#include <schatten/linalg/spectral_map.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/linalg/svd_impl.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace schatten {

Tensor spectral_power_svd(const Tensor& x, double power) { return apply_exactly(power_map(power), x); }

namespace {

/// X X^T on the short side, so that eigenvectors multiply from the left.
Tensor wide(const Tensor& x) { return x.size(0) > x.size(1) ? x.mT() : x; }
Tensor like(const Tensor& result, const Tensor& x) { return x.size(0) > x.size(1) ? result.mT() : result; }

/// Lower triangle of Y Y^T; what lies above is not all written.
Tensor lower_gram(const Tensor& y) {
  constexpr int64_t kSlabs = 8;
  const int64_t n = y.size(0), slab = std::max<int64_t>(32, (n + kSlabs - 1) / kSlabs);
  const Tensor gram = at::zeros({n, n}, y.options());
  for (int64_t from = 0; from < n; from += slab) {
    const int64_t to = std::min(n, from + slab);
    Tensor rows = gram.narrow(0, from, to - from).narrow(1, 0, to);
    at::mm_out(rows, y.narrow(0, from, to - from), y.narrow(0, 0, to).mT());
  }
  return gram;
}

/// V f V^T Y with R = V S^2 V^T. Small singular values are found in V^T Y by cancellation, so that it is a float64
/// product, too; the last one only turns, and has the dtype of x.
Tensor power_by_eigh(const Tensor& x, double power) {
  const Tensor y = wide(x).to(at::kDouble);
  const auto [values, vectors] = at::linalg_eigh(lower_gram(y), "L");
  const double largest = std::max(values[-1].item<double>(), 0.0);
  // Squaring costs half the digits: below sqrt(eps) of float64 nothing is known, whatever the input held.
  const double floor = std::max(rank_floor(x.scalar_type(), x.size(0), x.size(1)),
                                std::sqrt(std::numeric_limits<double>::epsilon() * static_cast<double>(y.size(0))));
  const Tensor known = values.gt(largest * floor * floor);
  const Tensor factors = at::where(known, values.clamp_min(std::numeric_limits<double>::min()).pow((power - 1) / 2),
                                   at::zeros_like(values));
  const Tensor turned = at::mm((vectors * factors).mT(), y);
  return like(at::mm(vectors.to(x.scalar_type()), turned.to(x.scalar_type())), x);
}

}  // namespace

Tensor spectral_power_eigh(const Tensor& x, double power) {
  return with_each_matrix(x, [&](const Tensor& m) { return power_by_eigh(m, power); });
}

}  // namespace schatten
