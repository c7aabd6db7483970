// Which Newton-Schulz for which shape: flops over rates, as measured by `schatten bench` on one core of each kind.
#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/linalg/polar.h>

#include <algorithm>

namespace schatten {

namespace {

/// GFLOP/s of the products and nanoseconds that a finished block of 32 x 32 costs beside them (conversion, mirror).
struct Rate {
  double gflops = 0, block_ns = 0;
};

bool is_amd() {
#ifdef __x86_64__
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

Rate kernel_rate(Isa isa, Arithmetic arithmetic) {
  if (!block_kernels(isa, arithmetic)) return {};
  switch (arithmetic) {
    case Arithmetic::float32: return isa == Isa::avx2 ? Rate{104, 300} : Rate{195, 200};
    case Arithmetic::bfloat16:
      if (isa == Isa::amx_bf16) return {1400, 180};
      // Intel's cores take two cycles for what AMD's do in one.
      if (isa == Isa::avx512_bf16) return is_amd() ? Rate{225, 200} : Rate{120, 200};
      return kernel_rate(isa, Arithmetic::float32);
    case Arithmetic::bfloat16x2: return {480, 300};
    case Arithmetic::bfloat16x3: return {250, 500};
  }
  return {};
}

/// ATen's products: no symmetry, and a call costs some microseconds.
double aten_gflops(Isa isa, at::ScalarType dtype) {
  const bool wide = isa >= Isa::avx512;
  if (dtype == at::kDouble) return wide ? 95 : 50;
  if (dtype == at::kFloat) return wide ? 190 : isa == Isa::avx2 ? 95 : 10;
  if (dtype == at::kBFloat16 && isa == Isa::amx_bf16) return 1300;
  if (dtype == at::kBFloat16 && isa == Isa::avx512_bf16) return is_amd() ? 220 : 180;
  return 1.3;  // no instructions for it: ATen's own loops
}

struct Cost {
  double n, m, steps;
  Rate rate;
  double symmetric(double depth) const {
    return n * (n + 32) * depth / (rate.gflops * 1e9) + blocks(n, n) * rate.block_ns * 1e-9;
  }
  double general() const { return 2 * n * n * m / (rate.gflops * 1e9) + blocks(n, m) * rate.block_ns * 1e-9; }
  static double blocks(double rows, double cols) { return rows / 32 * (cols / 32); }

  double triangle() const { return steps * (symmetric(m) + symmetric(n) + general()); }
  double gram(const std::vector<int64_t>& restarts) const {
    const auto again = static_cast<double>(restarts.size());
    return (1 + again) * (symmetric(m) + general()) + (4 * steps - 3 - 3 * again) * symmetric(n);
  }
};

/// A spurious eigenvalue of R near 0 grows by a^2 in every step but the last of a segment. What the rounding of R allows.
double allowed_growth(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::bfloat16: return 20;
    case Arithmetic::bfloat16x2: return 200;
    default: return 2000;
  }
}

/// Steps before which R is formed anew: as few segments as growth allows, among those the ones that grow least, and among
/// those the last one shortest.
std::vector<int64_t> restarts_for(const std::vector<std::array<double, 3>>& steps, Arithmetic arithmetic) {
  const size_t count = steps.size();
  const auto growth = [&](size_t from, size_t end) {
    double product = 1;
    for (size_t t = from; t + 1 < end; ++t) product *= steps[t][0] * steps[t][0];
    return product;
  };
  struct Best {
    double growth;
    std::vector<int64_t> starts;  // of all segments but the first
  };
  std::vector<Best> best;  // of the first t steps in one segment, then in two, ...
  for (size_t t = 0; t <= count; ++t) best.push_back({growth(0, t), {}});
  while (best[count].growth > allowed_growth(arithmetic)) {
    std::vector<Best> more = best;
    for (size_t t = 1; t <= count; ++t)
      for (size_t start = 1; start < t; ++start)
        if (const double g = std::max(best[start].growth, growth(start, t)); g <= more[t].growth) {
          more[t] = {g, best[start].starts};
          more[t].starts.push_back(static_cast<int64_t>(start));
        }
    if (more[count].growth == best[count].growth) break;
    best = std::move(more);
  }
  return best[count].starts;
}

std::vector<int64_t> effective(const std::vector<int64_t>& restarts, int64_t steps) {
  std::vector<int64_t> all;
  for (const int64_t t : restarts)
    if (t > 0 && t < steps) all.push_back(t);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

Arithmetic arithmetic_of(at::ScalarType dtype, const NewtonSchulzOptions& o, Isa isa) {
  if (dtype == at::kBFloat16) return Arithmetic::bfloat16;
  const bool split = o.split_bfloat16 && block_kernels(isa, Arithmetic::bfloat16x2) != nullptr;
  return split ? Arithmetic::bfloat16x2 : Arithmetic::float32;
}

}  // namespace

bool bfloat16_pays(Isa isa) {
  return isa >= Isa::avx512_bf16 &&
         kernel_rate(isa, Arithmetic::bfloat16).gflops > kernel_rate(isa, Arithmetic::float32).gflops;
}

std::string PolarPlan::describe() const {
  std::string text = std::string(enum_name(iteration)) + ", " + std::string(enum_name(arithmetic));
  for (size_t i = 0; i < restarts.size(); ++i)
    text += (i == 0 ? ", restart before step " : " and ") + std::to_string(restarts[i]);
  return text + (kernels ? "" : ", by ATen");
}

std::vector<PolarPlan> polar_plans(int64_t rows, int64_t cols, at::ScalarType dtype, const NewtonSchulzOptions& o,
                                   Isa isa) {
  const auto steps = static_cast<int64_t>(o.schedule.coefficients.size());
  const double n = static_cast<double>(std::min(rows, cols)), m = static_cast<double>(std::max(rows, cols));
  const bool known = dtype == at::kFloat || dtype == at::kBFloat16;
  const Arithmetic arithmetic = arithmetic_of(dtype, o, isa);
  const bool kernels = known && steps > 0 && block_kernels(isa, arithmetic) != nullptr;
  const double aten = aten_gflops(isa, dtype) * 1e9;
  const auto t = static_cast<double>(steps);
  std::vector<PolarPlan> all;
  all.push_back({PolarIteration::textbook,
                 dtype == at::kBFloat16 ? Arithmetic::bfloat16 : Arithmetic::float32,
                 false,
                 {},
                 t * ((4 * n * n * m + 2 * n * n * n) / aten + 15e-6)});
  const Cost cost{n, m, t, kernel_rate(isa, arithmetic)};
  const std::vector<int64_t> restarts =
      o.restarts.empty() ? restarts_for(o.schedule.coefficients, arithmetic) : effective(o.restarts, steps);
  const auto again = static_cast<double>(restarts.size());
  const double gram_flops = (1 + again) * 4 * n * n * m + (4 * t - 3 - 3 * again) * 2 * n * n * n;
  all.push_back({PolarIteration::triangle, arithmetic, kernels, {}, kernels ? cost.triangle() : all[0].seconds});
  if (n < m)
    all.push_back({PolarIteration::gram, arithmetic, kernels, restarts,
                   kernels ? cost.gram(restarts) : gram_flops / aten + 20e-6 * t});
  std::stable_sort(all.begin(), all.end(),
                   [](const PolarPlan& a, const PolarPlan& b) { return a.seconds < b.seconds; });
  return all;
}

PolarPlan plan_polar(int64_t rows, int64_t cols, at::ScalarType dtype, const NewtonSchulzOptions& o, Isa isa) {
  const std::vector<PolarPlan> all = polar_plans(rows, cols, dtype, o, isa);
  if (o.iteration == PolarIteration::automatic) return all.front();
  const PolarIteration wanted =
      o.iteration == PolarIteration::gram && rows == cols ? PolarIteration::triangle : o.iteration;
  return *std::find_if(all.begin(), all.end(), [&](const PolarPlan& p) { return p.iteration == wanted; });
}

}  // namespace schatten
