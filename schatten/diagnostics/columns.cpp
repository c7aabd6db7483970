#include <ATen/ATen.h>
#include <schatten/core/rng.h>
#include <schatten/diagnostics/columns.h>
#include <schatten/diagnostics/marchenko_pastur.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace schatten {

namespace {

std::vector<double> squares(const std::vector<double>& singular_values) {
  std::vector<double> lambda;
  for (const double s : singular_values) lambda.push_back(s * s);
  return lambda;
}

/// Below it a singular value is rounding error.
double rank_cut(const Tensor& matrix, double sigma_max) {
  const bool wide = at_least_float32(matrix.scalar_type()) == at::kDouble;
  const double eps = wide ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  return sigma_max * static_cast<double>(std::max(matrix.size(0), matrix.size(1))) * eps;
}

double sum_of(const std::vector<double>& lambda, double power) {  // relative to the largest
  double sum = 0;
  for (const double v : lambda) sum += std::pow(v / lambda.front(), power);
  return sum;
}

double entropy_of(const std::vector<double>& lambda, int64_t rank) {
  constexpr double kSmall = 1e-10;  // WeightWatcher's
  const double sum = lambda.front() * sum_of(lambda, 1);
  double entropy = 0;
  for (const double v : lambda) entropy -= (v / sum + kSmall) * std::log(v / sum + kSmall);
  return entropy / std::log(static_cast<double>(rank) + kSmall);
}

void fill_fit(Columns& c, const std::vector<double>& lambda, const PowerLawFit& fit) {
  c.num_evals = fit.eigenvalues;
  c.alpha = fit.alpha;
  c.D = fit.distance;
  if (!fit.enough) return;
  c.xmin = fit.x_min;
  c.num_pl_spikes = fit.tail;
  c.sigma = (fit.alpha - 1) / std::sqrt(static_cast<double>(fit.tail));
  c.alpha_weighted = fit.alpha * c.log_spectral_norm;
  c.log_alpha_norm = c.alpha_weighted + std::log10(sum_of(lambda, fit.alpha));
}

void fill_summary(Columns& c, const SpectralSummary& s) {
  c.sigma_max = s.sigma_max;
  c.sigma_median = s.sigma_median;
  c.sigma_min = s.sigma_min;
  c.frobenius_norm = s.frobenius_norm;
  c.rms = s.rms;
  c.stable_rank = s.stable_rank;
  c.effective_rank = s.effective_rank;
  c.participation_ratio = s.participation_ratio;
  c.slope = s.slope;
}

}  // namespace

Row row_of(const Tensor& matrix, const ColumnsOptions& options) {
  SpectralSummary summary = summarize_spectrum(matrix);
  Row row{.columns = {}, .singular_values = std::move(summary.singular_values)};
  Columns& c = row.columns;
  c.N = std::max(summary.rows, summary.cols);
  c.M = c.num_evals = std::min(summary.rows, summary.cols);
  c.Q = static_cast<double>(c.N) / static_cast<double>(c.M);
  fill_summary(c, summary);
  if (!(summary.sigma_max > 0)) return row;
  const std::vector<double> lambda = squares(row.singular_values);
  const double cut = rank_cut(matrix, summary.sigma_max);
  c.lambda_max = lambda.front();
  c.log_spectral_norm = std::log10(c.lambda_max);
  c.log_norm = c.log_spectral_norm + std::log10(sum_of(lambda, 1));
  c.matrix_rank =
      std::count_if(row.singular_values.begin(), row.singular_values.end(), [&](double s) { return s > cut; });
  c.entropy = entropy_of(lambda, c.matrix_rank);
  const double above = options.above < 0 ? cut * cut : options.above;
  fill_fit(c, lambda, fit_power_law(lambda, {.start = options.fit, .minimum = options.minimum, .above = above}));
  const MarchenkoPastur bulk = marchenko_pastur(matrix, row.singular_values);
  c.mp_edge = bulk.upper;
  c.mp_softrank = bulk.soft_rank;
  c.num_spikes = bulk.spikes;
  if (options.shuffled_seed < 0) return row;
  const Tensor shuffled = shuffled_entries(matrix, static_cast<uint64_t>(options.shuffled_seed));
  c.alpha_shuffled = fit_power_law(squares(singular_values(shuffled)),
                                   {.start = options.fit, .minimum = options.minimum, .above = above})
                         .alpha;
  return row;
}

std::vector<ColumnInfo> column_infos() {
  std::vector<ColumnInfo> infos;
  Columns{}.fields([&](std::string_view name, auto& member, std::string_view help) {
    infos.push_back({std::string(name), std::string(help), std::is_same_v<std::decay_t<decltype(member)>, int64_t>});
  });
  return infos;
}

std::vector<double> numbers_of(const Columns& columns) {
  std::vector<double> numbers;
  Columns copy = columns;
  copy.fields(
      [&](std::string_view, auto& member, std::string_view) { numbers.push_back(static_cast<double>(member)); });
  return numbers;
}

}  // namespace schatten
