#include <ATen/ATen.h>
#include <schatten/linalg/power_law.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace schatten {

std::vector<double> singular_values(const Tensor& matrix) {
  const Tensor m = matrix.detach().to(at_least_float32(matrix.scalar_type()));
  if (m.numel() == 0 || !m.isfinite().all().item<bool>()) return {};
  const Tensor s = at::linalg_svdvals(m).to(at::kDouble).cpu().contiguous();
  const double* values = s.data_ptr<double>();
  return {values, values + s.numel()};
}

namespace {

/// One matrix, or the kh kw slices of a convolution.
std::vector<Tensor> matrices_of(const Tensor& weight) {
  if (weight.dim() == 2) return {weight};
  std::vector<Tensor> slices;
  for (int64_t i = 0; i < weight.size(2); ++i)
    for (int64_t j = 0; j < weight.size(3); ++j) slices.push_back(weight.select(3, j).select(2, i));
  return slices;
}

}  // namespace

std::vector<double> eigenvalue_spectrum(const Tensor& weight) {
  if (weight.dim() != 2 && weight.dim() != 4)
    fail_usage({"eigenvalue_spectrum", "[m, n] or [out, in, kh, kw]", c10::str(weight.sizes()), ""});
  const double share = weight.dim() == 4 ? 0.5 : 1;
  std::vector<double> lambda;
  for (const Tensor& matrix : matrices_of(weight)) {
    const auto sigma = singular_values(matrix);
    if (sigma.empty()) return {};
    for (const double s : sigma) lambda.push_back(share * s * s);
  }
  std::sort(lambda.begin(), lambda.end());
  return lambda;
}

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

PowerLawFit no_fit() { return {.alpha = kNaN, .distance = kNaN}; }

double largest_distance(const std::vector<double>& logs, double alpha) {
  double distance = 0;
  const auto n = static_cast<double>(logs.size());
  for (size_t j = 0; j < logs.size(); ++j)
    distance = std::max(distance, std::abs(1 - std::exp((1 - alpha) * logs[j]) - static_cast<double>(j) / n));
  return distance;
}

PowerLawFit fit_from(const std::vector<double>& lambda, size_t first) {
  if (first >= lambda.size() || !(lambda[first] > 0)) return no_fit();
  std::vector<double> logs;
  for (size_t j = first; j < lambda.size(); ++j) logs.push_back(std::log(lambda[j] / lambda[first]));
  const double sum = std::accumulate(logs.begin(), logs.end(), 0.0);
  if (!(sum > 0)) return no_fit();
  const double alpha = 1 + static_cast<double>(logs.size()) / sum;
  return {.alpha = alpha,
          .distance = largest_distance(logs, alpha),
          .x_min = lambda[first],
          .tail = static_cast<int64_t>(logs.size()),
          .enough = true};
}

struct Window {
  double low = -kInfinity, high = kInfinity;
};

/// The smallest D among starts within the window; the last eigenvalue is no start.
PowerLawFit best_fit(const std::vector<double>& lambda, const Window& window) {
  PowerLawFit best = no_fit();
  for (size_t i = 0; i + 1 < lambda.size(); ++i) {
    if (lambda[i] < window.low || lambda[i] > window.high) continue;
    const PowerLawFit fit = fit_from(lambda, i);
    if (fit.enough && (!best.enough || fit.distance < best.distance)) best = fit;
  }
  return best;
}

/// Left edge of the fullest of 100 bins of log10 lambda; eigenvalues of 0 have no logarithm.
double peak_of(const std::vector<double>& lambda) {
  constexpr int kBins = 100;
  const auto positive = std::upper_bound(lambda.begin(), lambda.end(), 0.0);
  if (positive == lambda.end()) return kNaN;
  const double low = std::log10(*positive), width = std::log10(lambda.back()) - low;
  std::array<int, kBins> counts{};
  for (auto it = positive; width > 0 && it != lambda.end(); ++it)
    ++counts[std::min(static_cast<size_t>((std::log10(*it) - low) * kBins / width), size_t{kBins - 1})];
  const auto fullest = std::max_element(counts.begin(), counts.end()) - counts.begin();
  return std::pow(10, low + width * static_cast<double>(fullest) / kBins);
}

PowerLawFit fit_sorted(const std::vector<double>& lambda, TailStart start) {
  if (start == TailStart::median) return fit_from(lambda, lambda.size() / 2);
  if (start == TailStart::goodness_of_fit) return best_fit(lambda, {});
  const double peak = peak_of(lambda), low = 0.95 * peak;
  return best_fit(lambda, {start == TailStart::fix_finger ? low : std::log10(low), 1.5 * peak});
}

}  // namespace

PowerLawFit fit_power_law(std::vector<double> eigenvalues, const PowerLawOptions& options) {
  const auto count = static_cast<int64_t>(eigenvalues.size());
  std::sort(eigenvalues.begin(), eigenvalues.end());
  const auto kept = std::upper_bound(eigenvalues.begin(), eigenvalues.end(), options.above);
  if (kept != eigenvalues.end()) eigenvalues.erase(eigenvalues.begin(), kept);
  PowerLawFit fit = count < options.minimum ? no_fit() : fit_sorted(eigenvalues, options.start);
  fit.eigenvalues = count;
  return fit;
}

TailSummary summarize_tail(const std::vector<double>& eigenvalues) {
  if (eigenvalues.empty()) return {kNaN, kNaN, kNaN, kNaN};
  const double largest = *std::max_element(eigenvalues.begin(), eigenvalues.end());
  const double sum = std::accumulate(eigenvalues.begin(), eigenvalues.end(), 0.0);
  constexpr double kSmall = 6e-5;
  const double floor = static_cast<double>(eigenvalues.size()) * std::numeric_limits<double>::epsilon();
  double entropy = 0, rank = 0;
  for (const double v : eigenvalues) {
    const double p = v / sum + kSmall;
    entropy -= p * std::log(p);
    rank += v > largest * floor ? 1 : 0;
  }
  return {largest, sum, sum / largest, entropy / std::log(rank + kSmall)};
}

double alpha_hat(double alpha, double largest) {
  const double x = alpha * std::log10(largest);
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

}  // namespace schatten
