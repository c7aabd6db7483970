// Which Newton-Schulz for which shape: flops over rates, as measured by `schatten bench` on one core of each kind.
#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/linalg/polar.h>
#include <schatten/linalg/symmetric_product_impl.h>

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

/// Seconds by the kernels.
double kernel_seconds(const PolarProducts& products, double n, double m, const Rate& rate) {
  const auto blocks = [&](double cols) { return n / 32 * (cols / 32) * rate.block_ns * 1e-9; };
  const auto symmetric = [&](double depth) { return n * (n + 32) * depth / (rate.gflops * 1e9) + blocks(n); };
  const double general = 2 * n * n * m / (rate.gflops * 1e9) + blocks(m);
  return products.wide * (symmetric(m) + general) + products.square * symmetric(n);
}

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
  std::string text = std::string(enum_name(iteration)) + ", ";
  text += kernels ? std::string(enum_name(arithmetic)) : dtype_name(dtype);
  for (size_t i = 0; i < restarts.size(); ++i)
    text += (i == 0 ? ", restart before step " : " and ") + std::to_string(restarts[i]);
  return text + (kernels ? "" : ", by ATen");
}

double PolarProducts::operations(double n, double m, double share) const {
  return wide * (1 + share) * 2 * n * n * m + square * share * 2 * n * n * n;
}

PolarProducts polar_products(PolarIteration iteration, double steps, size_t restarts) {
  if (iteration != PolarIteration::gram) return {steps, steps};
  const auto segments = static_cast<double>(restarts + 1);
  return {segments, 4 * steps - 3 * segments};
}

std::vector<PolarPlan> polar_plans(int64_t rows, int64_t cols, at::ScalarType dtype, const NewtonSchulzOptions& o,
                                   Isa isa, at::Device device) {
  const auto steps = static_cast<int64_t>(o.schedule.coefficients.size());
  const int64_t n = std::min(rows, cols), m = std::max(rows, cols);
  const bool known = device.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16);
  const Arithmetic arithmetic = arithmetic_of(dtype, o, isa);
  const bool kernels = known && steps > 0 && block_kernels(isa, arithmetic) != nullptr;
  const auto plan = [&](PolarIteration iteration, bool by_kernels, std::vector<int64_t> restarts) {
    const auto t = static_cast<double>(steps), short_side = static_cast<double>(n), long_side = static_cast<double>(m);
    const PolarProducts products = polar_products(iteration, t, restarts.size());
    const bool halved = iteration != PolarIteration::textbook && device.is_cpu();
    const double share = halved ? symmetric_share(n, n, dtype) : 1;
    const double overhead = iteration == PolarIteration::gram ? 20e-6 : 15e-6;  // of ATen's calls, a step
    const double seconds =
        by_kernels ? kernel_seconds(products, short_side, long_side, kernel_rate(isa, arithmetic))
                   : products.operations(short_side, long_side, share) / (aten_gflops(isa, dtype) * 1e9) + overhead * t;
    return PolarPlan{iteration, arithmetic, dtype, by_kernels, std::move(restarts), seconds};
  };
  std::vector<PolarPlan> all{plan(PolarIteration::textbook, false, {}), plan(PolarIteration::triangle, kernels, {})};
  if (n < m)
    all.push_back(
        plan(PolarIteration::gram, kernels,
             o.restarts.empty() ? restarts_for(o.schedule.coefficients, arithmetic) : effective(o.restarts, steps)));
  std::stable_sort(all.begin(), all.end(),
                   [](const PolarPlan& a, const PolarPlan& b) { return a.seconds < b.seconds; });
  return all;
}

PolarPlan plan_polar(int64_t rows, int64_t cols, at::ScalarType dtype, const NewtonSchulzOptions& o, Isa isa,
                     at::Device device) {
  const std::vector<PolarPlan> all = polar_plans(rows, cols, dtype, o, isa, device);
  if (o.iteration == PolarIteration::automatic) return all.front();
  const PolarIteration wanted =
      o.iteration == PolarIteration::gram && rows == cols ? PolarIteration::triangle : o.iteration;
  return *std::find_if(all.begin(), all.end(), [&](const PolarPlan& p) { return p.iteration == wanted; });
}

}  // namespace schatten
