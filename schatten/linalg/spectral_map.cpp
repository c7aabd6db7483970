#include <ATen/ATen.h>
#include <schatten/linalg/spectral_map.h>
#include <schatten/linalg/svd_impl.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace schatten {

SpectralMap polar_map() {
  return {"1", [](double) { return 1.0; }};
}
SpectralMap power_map(double power) {
  return {"sigma^" + std::to_string(power), [power](double sigma) { return std::pow(sigma, power); }};
}

double rank_floor(at::ScalarType dtype, int64_t rows, int64_t cols) {
  const double eps =
      dtype == at::kDouble ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  return eps * static_cast<double>(std::max(rows, cols));
}

Tensor apply_exactly(const SpectralMap& map, const Tensor& x) {
  return with_each_matrix(x, [&](const Tensor& matrix) {
    const auto [u, s, vh] = at::linalg_svd(matrix, false);
    const Tensor sigma = s.to(at::kDouble).contiguous();
    double* values = sigma.data_ptr<double>();
    const int64_t n = sigma.numel();
    const double floor = n > 0 ? values[0] * rank_floor(matrix.scalar_type(), matrix.size(0), matrix.size(1)) : 0;
    for (int64_t i = 0; i < n; ++i) values[i] = values[i] > floor ? map.f(values[i]) : 0;
    return at::mm(u * sigma.to(u.scalar_type()), vh);
  });
}

double largest_entry(const Tensor& x) {
  if (x.numel() == 0) return 0;
  const auto [least, most] = at::aminmax(x);
  return std::max(std::abs(least.item<double>()), std::abs(most.item<double>()));
}

Tensor each_matrix(const Tensor& x, const std::function<Tensor(const Tensor&, int64_t)>& f) {
  TORCH_CHECK(x.dim() >= 2, "[spectral map] expects [.., m, n], got ", x.sizes(), ". Route vectors to adamw.");
  if (x.numel() == 0) return x.clone();
  const bool half = x.scalar_type() != at::kDouble && x.scalar_type() != at::kFloat;
  const Tensor full = half ? x.to(at::kFloat) : x;
  if (x.dim() == 2) return f(full, 0).to(x.scalar_type());
  const Tensor work = full.reshape({-1, x.size(-2), x.size(-1)}), out = at::empty(work.sizes(), work.options());
  for (int64_t i = 0; i < work.size(0); ++i) out[i].copy_(f(work[i], i));
  return out.view(x.sizes()).to(x.scalar_type());
}

Tensor with_each_matrix(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  return each_matrix(x, [&](const Tensor& matrix, int64_t) {
    // LAPACK throws on NaN; a bad gradient must surface in the weights' guard, not vanish in here.
    return matrix.isfinite().all().item<bool>() ? f(matrix).contiguous() : at::full_like(matrix, NAN);
  });
}

}  // namespace schatten
