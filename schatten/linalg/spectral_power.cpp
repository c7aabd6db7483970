#include <ATen/ATen.h>
#include <schatten/core/rng.h>
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

Tensor power_by_eigh(const Tensor& x, double power) {
  const Tensor y = wide(x).to(at::kDouble);
  const auto [values, vectors] = at::linalg_eigh(at::mm(y, y.mT()));
  const double largest = std::max(values[-1].item<double>(), 0.0);
  // Squaring costs half the digits: below sqrt(eps) of float64 nothing is known, whatever the input held.
  const double floor = std::max(rank_floor(x.scalar_type(), x.size(0), x.size(1)),
                                std::sqrt(std::numeric_limits<double>::epsilon() * static_cast<double>(y.size(0))));
  const Tensor known = values.gt(largest * floor * floor);
  const Tensor factors = at::where(known, values.clamp_min(std::numeric_limits<double>::min()).pow((power - 1) / 2),
                                   at::zeros_like(values));
  return like(at::mm(vectors * factors, at::mm(vectors.mT(), y)), x).to(x.scalar_type());
}

/// An upper estimate of the largest eigenvalue: power iteration from a fixed start, times 1.02.
/// q is monotone and bounded above 1, so an estimate some per cent low does no harm.
double largest_eigenvalue(const Tensor& gram) {
  // Irregular, or the leading eigenvector of an evenly built matrix (equal rows, zero column sums) is never met.
  const Tensor noise = Rng(0).of("power iteration").normal({gram.size(0)}, at::kFloat).to(gram.options());
  Tensor v = gram.diagonal().abs().add(gram.abs().mean()).mul(noise.mul(0.2).add(1)).unsqueeze(1);
  double estimate = 0;
  for (int i = 0; i < 7; ++i) {
    const double norm = at::linalg_vector_norm(v).item<double>();
    if (!(norm > 0) || !std::isfinite(norm)) return 0;
    v = at::mm(gram, v / norm);
    estimate = at::linalg_vector_norm(v).item<double>();
  }
  return 1.02 * estimate;
}

/// (R + s I)^-1, with s raised fourfold where Cholesky fails; false when that does not help either.
bool add_shifted_inverse(Tensor& sum, const Tensor& gram, double shift, double weight, RationalReport* report) {
  for (int attempt = 0; attempt < 4; ++attempt, shift *= 4) {
    Tensor shifted = gram.clone();
    shifted.diagonal().add_(shift);
    const auto [factor, info] = at::linalg_cholesky_ex(shifted);
    if (info.item<int>() == 0) {
      sum.add_(at::cholesky_inverse(factor), weight);
      return true;
    }
    if (report && attempt < 3) ++report->shift_raises;
  }
  return false;
}

Tensor power_by_rational(const Tensor& x, const RationalPower& rational, RationalReport* report) {
  // Largest entry first: squares of tiny or huge gradients would leave the range of float32.
  const double scale = x.abs().max().item<double>();
  if (scale == 0) return at::zeros_like(x);
  const Tensor y = wide(x) / scale;
  Tensor gram = at::mm(y, y.mT());
  const double largest = largest_eigenvalue(gram);
  if (!(largest > 0)) {
    if (report) ++report->eigh_fallbacks;
    return power_by_eigh(x, rational.power);
  }
  gram.div_(largest);
  Tensor q = at::zeros_like(gram);
  q.diagonal().fill_(rational.constant);
  for (size_t i = 0; i < rational.shifts.size(); ++i) {
    if (add_shifted_inverse(q, gram, rational.shifts[i], rational.weights[i], report)) continue;
    if (report) ++report->eigh_fallbacks;
    return power_by_eigh(x, rational.power);
  }
  const double sigma_max = std::sqrt(largest);
  const double factor = std::pow(scale * sigma_max, rational.power) / sigma_max;
  return like(at::mm(q, y).mul_(factor), x).contiguous();
}

}  // namespace

Tensor spectral_power_eigh(const Tensor& x, double power) {
  return with_each_matrix(x, [&](const Tensor& m) { return power_by_eigh(m, power); });
}

Tensor spectral_power_rational(const Tensor& x, const RationalPower& power, RationalReport* report) {
  return with_each_matrix(x, [&](const Tensor& m) { return power_by_rational(m, power, report); });
}

}  // namespace schatten
