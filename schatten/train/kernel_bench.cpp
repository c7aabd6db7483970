#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <schatten/core/error.h>
#include <schatten/kernels/elementwise.h>
#include <schatten/linalg/plain.h>
#include <schatten/linalg/polar.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/stages/spectral.h>
#include <schatten/train/kernel_bench.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>

namespace schatten {

namespace {

constexpr int64_t kLongestSide = 16384;
constexpr int64_t kLongVector = int64_t{1} << 23;  // beyond the caches of a core

using Clock = std::chrono::steady_clock;
/// Work on the copy of this number; copies run at the same time.
using Work = std::function<void(int64_t copy)>;

double seconds_of(const Work& work, int64_t copies) {
  const auto began = Clock::now();
  at::parallel_for(0, copies, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // not inherited
    for (int64_t copy = begin; copy < end; ++copy) work(copy);
  });
  return std::chrono::duration<double>(Clock::now() - began).count();
}

/// Best seconds of several works in turns, after one round that pays for memory and caches.
std::vector<double> race(const std::vector<Work>& works, const KernelBenchOptions& o) {
  std::vector<double> best(works.size(), std::numeric_limits<double>::infinity());
  for (const Work& work : works) seconds_of(work, o.threads);
  const auto began = Clock::now();
  const double budget = o.seconds * static_cast<double>(works.size());
  do {
    for (size_t i = 0; i < works.size(); ++i) best[i] = std::min(best[i], seconds_of(works[i], o.threads));
  } while (std::chrono::duration<double>(Clock::now() - began).count() < budget);
  return best;
}

double relative_error(const Tensor& got, const Tensor& exact) {
  return ((got.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

Tensor random_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  const at::Generator draw = at::detail::createCPUGenerator(seed);
  return at::randn({rows, cols}, draw, at::kFloat);
}

std::vector<Tensor> for_each_copy(const KernelBenchOptions& o, const std::function<Tensor()>& make) {
  std::vector<Tensor> all;
  for (int64_t copy = 0; copy < o.threads; ++copy) all.push_back(make());
  return all;
}

at::ScalarType dtype_of(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::bfloat16 ? at::kBFloat16 : at::kFloat;
}

/// What `mm` would reach in this arithmetic: several bfloat16 products make one of more bits.
double peak_of(const Peaks& peaks, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::float32: return peaks.float32;
    case Arithmetic::bfloat16: return std::max(peaks.bfloat16, peaks.float32);
    case Arithmetic::bfloat16x2: return std::max(peaks.bfloat16 / 3, peaks.float32);
    case Arithmetic::bfloat16x3: return std::max(peaks.bfloat16 / 6, peaks.float32);
  }
  return 0;
}

std::vector<Arithmetic> arithmetics_of(Isa isa) {
  std::vector<Arithmetic> all;
  for (size_t i = 0; i < enum_names(Arithmetic{}).size(); ++i)
    if (block_kernels(isa, static_cast<Arithmetic>(i))) all.push_back(static_cast<Arithmetic>(i));
  return all;
}

/// The rows of one shape; what several of them need is made once.
class ShapeBench {
 public:
  ShapeBench(MatrixShape shape, const KernelBenchOptions& options, const Peaks& peaks,
             const std::function<void(const KernelRow&)>& done)
      : shape_(shape), o_(options), peaks_(peaks), done_(done), x_(random_matrix(shape.rows, shape.cols, 1)) {
    short_ = std::min(shape.rows, shape.cols);
    long_ = std::max(shape.rows, shape.cols);
    wide_ = shape.rows <= shape.cols ? x_ : x_.t().contiguous();
  }
  void products();
  void newton_schulz_ways();
  void rational_powers();

 private:
  struct Contest {
    std::string kernel, dtype, against;
    double operations, needed, peak;  // per matrix
    Work ours, aten;
    std::function<double()> error;
    double predicted = 0;
  };
  void run(const Contest& c) {
    const std::vector<double> best = race({c.ours, c.aten}, o_);
    done_({.kernel = c.kernel,
           .dtype = c.dtype,
           .against = c.against,
           .shape = shape_,
           .threads = o_.threads,
           .seconds = best[0],
           .aten_seconds = best[1],
           .predicted = c.predicted,
           .operations = c.operations,
           .bound = static_cast<double>(o_.threads) * c.needed / c.peak,
           .error = c.error()});
  }
  void symmetric_product(Arithmetic arithmetic);
  void general_product(Arithmetic arithmetic);

  MatrixShape shape_;
  const KernelBenchOptions& o_;
  const Peaks& peaks_;
  const std::function<void(const KernelRow&)>& done_;
  Tensor x_, wide_;
  int64_t short_ = 0, long_ = 0;
};

/// X X^T of the short side.
void ShapeBench::symmetric_product(Arithmetic arithmetic) {
  const BlockKernels& kernels = *block_kernels(o_.isa, arithmetic);
  Scratch scratch;
  const Tiled x = take_tiled(scratch, kernels, short_, long_);
  import_matrix(kernels, plain(wide_), 1, x);
  std::vector<Tiled> out;
  for (int64_t copy = 0; copy < o_.threads; ++copy) out.push_back(take_symmetric(scratch, kernels, short_));
  const Tensor same = wide_.to(dtype_of(arithmetic));
  std::vector<Tensor> theirs = for_each_copy(o_, [&] { return at::empty({short_, short_}, same.options()); });
  const auto n = static_cast<double>(short_), m = static_cast<double>(long_);
  const auto multiplied = [&](int64_t copy) {
    multiply(kernels, {.a = x, .b = x, .transposed = true, .symmetric = true, .tiled = &out[copy]});
  };
  run({"symmetric product", std::string(enum_name(arithmetic)), "mm", 2 * n * n * m, n * (n + 1) * m,
       peak_of(peaks_, arithmetic), multiplied, [&](int64_t copy) { at::mm_out(theirs[copy], same, same.t()); },
       [&] {
         Tensor result = at::empty({short_, short_}, at::kFloat);
         export_matrix(kernels, out[0], 1, plain(result));
         const Tensor exact = wide_.to(at::kDouble);
         return relative_error(result, exact.mm(exact.t()));
       }});
}

/// B X, B symmetric of the short side.
void ShapeBench::general_product(Arithmetic arithmetic) {
  const BlockKernels& kernels = *block_kernels(o_.isa, arithmetic);
  Tensor b = random_matrix(short_, short_, 2);
  b = b + b.t();
  Scratch scratch;
  const Tiled left = take_symmetric(scratch, kernels, short_);
  const Tiled right = take_tiled(scratch, kernels, short_, long_);
  import_matrix(kernels, plain(b), 1, left);
  import_matrix(kernels, plain(wide_), 1, right);
  std::vector<Tiled> out;
  for (int64_t copy = 0; copy < o_.threads; ++copy) out.push_back(take_tiled(scratch, kernels, short_, long_));
  const Tensor b_same = b.to(dtype_of(arithmetic)), x_same = wide_.to(dtype_of(arithmetic));
  std::vector<Tensor> theirs = for_each_copy(o_, [&] { return at::empty_like(x_same); });
  const double operations = 2 * static_cast<double>(short_) * static_cast<double>(short_) * static_cast<double>(long_);
  run({"general product", std::string(enum_name(arithmetic)), "mm", operations, operations, peak_of(peaks_, arithmetic),
       [&](int64_t copy) { multiply(kernels, {.a = left, .b = right, .tiled = &out[copy]}); },
       [&](int64_t copy) { at::mm_out(theirs[copy], b_same, x_same); },
       [&] {
         Tensor result = at::empty({short_, long_}, at::kFloat);
         export_matrix(kernels, out[0], 1, plain(result));
         return relative_error(result, b.to(at::kDouble).mm(wide_.to(at::kDouble)));
       }});
}

void ShapeBench::products() {
  for (const Arithmetic arithmetic : arithmetics_of(o_.isa)) {
    symmetric_product(arithmetic);
    general_product(arithmetic);
  }
}

NewtonSchulzOptions quintic(PolarIteration iteration, bool split) {
  return {.schedule = polynomial_schedule("quintic"), .iteration = iteration, .restarts = {}, .split_bfloat16 = split};
}

struct ComputeWay {
  at::ScalarType dtype;
  bool split;
  const char* name;
};
constexpr ComputeWay kComputeWays[] = {
    {at::kBFloat16, false, "bfloat16"}, {at::kFloat, true, "bfloat16x2"}, {at::kFloat, false, "float32"}};
bool possible(const ComputeWay& way, Isa isa) { return !way.split || block_kernels(isa, Arithmetic::bfloat16x2); }

/// Five quintic steps; ATen's side is the textbook's loop in the same dtype.
void ShapeBench::newton_schulz_ways() {
  const auto n = static_cast<double>(short_), m = static_cast<double>(long_);
  const Tensor exact = newton_schulz(x_.to(at::kDouble), quintic(PolarIteration::textbook, false), o_.isa);
  std::vector<Tensor> results(static_cast<size_t>(o_.threads)), theirs(results);
  for (const ComputeWay& way : kComputeWays) {
    if (!possible(way, o_.isa)) continue;
    for (const PolarPlan& plan : polar_plans(shape_.rows, shape_.cols, way.dtype, quintic({}, way.split), o_.isa)) {
      if (!plan.kernels) continue;
      const NewtonSchulzOptions ours = quintic(plan.iteration, way.split),
                                textbook = quintic(PolarIteration::textbook, false);
      const auto steps = static_cast<double>(ours.schedule.coefficients.size());
      run({"Newton-Schulz, " + std::string(enum_name(plan.iteration)), way.name, "textbook loop",
           polar_products(PolarIteration::textbook, steps, 0).operations(n, m, 1),
           polar_products(plan.iteration, steps, plan.restarts.size()).operations(n, m, 0.5),
           peak_of(peaks_, plan.arithmetic),
           [&](int64_t copy) { results[copy] = newton_schulz(x_, ours, o_.isa, way.dtype); },
           [&](int64_t copy) { theirs[copy] = newton_schulz(x_, textbook, o_.isa, way.dtype); },
           [&] { return relative_error(results[0], exact); }, plan.seconds});
    }
  }
}

/// Four Cholesky inverses; ATen's side is the SVD.
void ShapeBench::rational_powers() {
  const auto n = static_cast<double>(short_), m = static_cast<double>(long_);
  std::vector<Tensor> results(static_cast<size_t>(o_.threads)), theirs(results);
  for (const double power : {0.0, 0.125}) {
    const RationalPower fit = fit_rational_power(power);
    const double operations = 3 * n * n * m + static_cast<double>(fit.shifts.size()) * n * n * n;
    run({power == 0 ? "rational polar factor" : "rational power 1/8", "float32", "SVD", operations, operations,
         peak_of(peaks_, block_kernels(o_.isa, Arithmetic::bfloat16x2) ? Arithmetic::bfloat16x2 : Arithmetic::float32),
         [&](int64_t copy) { results[copy] = spectral_power_rational(x_, fit, nullptr, {.isa = o_.isa}); },
         [&](int64_t copy) { theirs[copy] = spectral_power_svd(x_, power); },
         [&] { return relative_error(results[0], spectral_power_eigh(x_.to(at::kDouble), power)); }});
  }
}

/// Passes over vectors that no cache of a core holds.
class PassBench {
 public:
  PassBench(const KernelBenchOptions& options, const Peaks& peaks, const std::function<void(const KernelRow&)>& done)
      : o_(options), peaks_(peaks), done_(done) {
    for (auto* tensors : {&grad_, &weight_, &first_, &second_})
      *tensors = for_each_copy(o_, [] { return at::full({kLongVector}, 0.5, at::kFloat); });
  }
  void momentum(at::ScalarType dtype);
  void apply(at::ScalarType dtype);
  void adamw();

 private:
  void run(const std::string& kernel, at::ScalarType dtype, const std::string& against, double bytes, double error,
           const Work& ours, const Work& aten) {
    const std::vector<double> best = race({ours, aten}, o_);
    const double all_bytes = bytes * static_cast<double>(kLongVector * o_.threads);
    done_({.kernel = kernel,
           .dtype = dtype_name(dtype),
           .against = against,
           .shape = {1, kLongVector},
           .threads = o_.threads,
           .seconds = best[0],
           .aten_seconds = best[1],
           .bound = all_bytes / peaks_.bandwidth(),
           .error = error});
  }
  static Numbers numbers(const Tensor& t) {
    if (t.scalar_type() == at::kFloat) return {t.data_ptr<float>()};
    return {static_cast<uint16_t*>(t.data_ptr())};
  }
  static ConstNumbers const_numbers(const Tensor& t) {
    if (t.scalar_type() == at::kFloat) return {t.const_data_ptr<float>()};
    return {static_cast<const uint16_t*>(t.const_data_ptr())};
  }

  const KernelBenchOptions& o_;
  const Peaks& peaks_;
  const std::function<void(const KernelRow&)>& done_;
  std::vector<Tensor> grad_, weight_, first_, second_;
};

/// Gradient and buffer to Nesterov's average in the dtype of the products, with its norm.
void PassBench::momentum(at::ScalarType dtype) {
  const std::vector<Tensor> x = for_each_copy(o_, [&] { return at::zeros({kLongVector}, dtype); });
  const auto step = [&](const Tensor& g, const Tensor& m, const Tensor& to) {
    return momentum_into(o_.isa, {}, const_numbers(g), m.data_ptr<float>(), numbers(to), to.numel());
  };
  const Tensor g = random_matrix(1, 4096, 1), m = random_matrix(1, 4096, 2), to = at::empty({1, 4096}, dtype);
  const Tensor g64 = g.to(at::kDouble), m64 = m.to(at::kDouble).lerp(g64, 0.05);
  step(g, m, to);
  run(
      "momentum and norm", dtype, "four calls", dtype == at::kFloat ? 16 : 14, relative_error(to, g64.lerp(m64, 0.95)),
      [&](int64_t c) { step(grad_[c], first_[c], x[c]); },
      [&](int64_t c) { first_[c].lerp_(grad_[c], 0.05), grad_[c].lerp(first_[c], 0.95).to(dtype).norm(); });
}

void PassBench::apply(at::ScalarType dtype) {
  const std::vector<Tensor> u = for_each_copy(o_, [&] { return at::full({kLongVector}, 0.5, dtype); });
  const WeightRule rule{.lr = 1e-6, .shrink = Shrink::before, .shrink_by = 1e-7};
  const Tensor w = random_matrix(1, 4096, 1), some = random_matrix(1, 4096, 2).to(dtype);
  const Tensor exact = w.to(at::kDouble).mul(1 - rule.shrink_by).sub(some.to(at::kDouble), rule.lr);
  apply_update(o_.isa, rule, const_numbers(some), numbers(w), w.numel());
  run(
      "decay and update", dtype, "two calls", dtype == at::kFloat ? 12 : 10, relative_error(w, exact),
      [&](int64_t c) { apply_update(o_.isa, rule, const_numbers(u[c]), numbers(weight_[c]), kLongVector); },
      [&](int64_t c) { weight_[c].mul_(1 - rule.shrink_by).sub_(u[c], rule.lr); });
}

void PassBench::adamw() {
  const WeightRule weight{.lr = 1e-6, .shrink = Shrink::before, .shrink_by = 1e-8};
  const auto step = [&](const Tensor& g, const Tensor& w, const Tensor& m, const Tensor& v, const AdamRule& rule) {
    step_adam(o_.isa, rule, weight,
              {.grad = const_numbers(g),
               .weight = numbers(w),
               .first = m.data_ptr<float>(),
               .second = v.data_ptr<float>(),
               .count = w.numel()});
  };
  const Tensor g = random_matrix(1, 4096, 1), w = at::zeros_like(g), m = at::zeros_like(g), v = at::zeros_like(g);
  const AdamRule none{.beta1 = 0, .beta2 = 0};  // then U = G / (|G| + eps)
  step(g, w, m, v, none);
  const Tensor g64 = g.to(at::kDouble), exact = g64.div(g64.abs().add(none.eps)).mul(-weight.lr);
  const Tensor t = at::ones({}, at::kFloat);
  run(
      "AdamW", at::kFloat, "fused AdamW", 28, relative_error(w, exact),
      [&](int64_t c) { step(grad_[c], weight_[c], first_[c], second_[c], {}); },
      [&](int64_t c) {
        at::_fused_adamw_({weight_[c]}, {grad_[c]}, {first_[c]}, {second_[c]}, {}, {t}, weight.lr, 0.9, 0.999, 0.01,
                          1e-8, false, false);
      });
}

const std::vector<MatrixShape> kDefaultShapes = {{512, 512}, {512, 1376}, {768, 3072}};

}  // namespace

MatrixShape parse_matrix_shape(const std::string& text) {
  MatrixShape shape;
  const char *begin = text.data(), *end = begin + text.size();
  const auto [middle, first] = std::from_chars(begin, end, shape.rows);
  const bool cross = first == std::errc() && middle != end && *middle == 'x';
  const auto [last, second] =
      cross ? std::from_chars(middle + 1, end, shape.cols) : std::from_chars_result{begin, first};
  const auto good = [](int64_t side) { return side >= 1 && side <= kLongestSide; };
  if (!cross || second != std::errc() || last != end || !good(shape.rows) || !good(shape.cols))
    fail_usage({"bench", "a shape as ROWSxCOLS with sides from 1 to " + std::to_string(kLongestSide), "'" + text + "'",
                "For example 768x3072."});
  return shape;
}

Isa parse_isa(const std::string& text) {
  if (text.empty()) return this_isa();
  Isa isa{};
  read_field(Value(text), "bench", "isa", isa);
  return checked_isa(isa, "bench");
}

double Peaks::bandwidth() const { return std::max({copy, triad, scale}); }

Value Peaks::to_value() const {
  return Value::Table{{"float32_gflops", float32 * 1e-9},
                      {"bfloat16_gflops", bfloat16 * 1e-9},
                      {"copy_gb_per_second", copy * 1e-9},
                      {"triad_gb_per_second", triad * 1e-9},
                      {"scale_gb_per_second", scale * 1e-9}};
}

Peaks measure_peaks(const KernelBenchOptions& o) {
  at::set_num_threads(static_cast<int>(o.threads));
  Peaks peaks;
  for (const int64_t n : {512, 1024, 1536}) {
    const Tensor a = random_matrix(n, n, 1), half = a.to(at::kBFloat16);
    const std::vector<Tensor> c = for_each_copy(o, [&] { return at::empty_like(a); });
    const std::vector<Tensor> d = for_each_copy(o, [&] { return at::empty_like(half); });
    std::vector<Tensor> out32 = c, out16 = d;
    const std::vector<double> best =
        race({[&](int64_t i) { at::mm_out(out32[i], a, a); }, [&](int64_t i) { at::mm_out(out16[i], half, half); }}, o);
    const double operations = static_cast<double>(o.threads) * 2 * static_cast<double>(n * n * n);
    peaks.float32 = std::max(peaks.float32, operations / best[0]);
    peaks.bfloat16 = std::max(peaks.bfloat16, operations / best[1]);
  }
  std::vector<Tensor> a = for_each_copy(o, [] { return at::ones({kLongVector}, at::kFloat); });
  const std::vector<Tensor> b = for_each_copy(o, [] { return at::ones({kLongVector}, at::kFloat); });
  const std::vector<Tensor> c = for_each_copy(o, [] { return at::ones({kLongVector}, at::kFloat); });
  const std::vector<double> best =
      race({[&](int64_t i) { a[i].copy_(b[i]); }, [&](int64_t i) { at::add_out(a[i], b[i], c[i], 0.5); },
            [&](int64_t i) { a[i].mul_(1.0); }},
           o);
  const double entries = static_cast<double>(o.threads * kLongVector);
  peaks.copy = 8 * entries / best[0];
  peaks.triad = 12 * entries / best[1];
  peaks.scale = 8 * entries / best[2];
  return peaks;
}

double KernelRow::ns_per_entry() const {
  return seconds * 1e9 / static_cast<double>(threads * shape.rows * shape.cols);
}

Value KernelRow::to_value() const {
  return Value::Table{{"kernel", kernel},
                      {"dtype", dtype},
                      {"rows", shape.rows},
                      {"cols", shape.cols},
                      {"threads", threads},
                      {"seconds", seconds},
                      {"predicted_seconds", predicted > 0 ? Value(predicted) : Value()},
                      {"gflops", operations > 0 ? Value(gflops()) : Value()},
                      {"ns_per_entry", ns_per_entry()},
                      {"of_roofline", of_roofline()},
                      {"against", against},
                      {"ratio", ratio()},
                      {"error", error}};
}

void measure_kernels(const KernelBenchOptions& o, const Peaks& peaks,
                     const std::function<void(const KernelRow&)>& done) {
  at::set_num_threads(static_cast<int>(o.threads));
  for (const MatrixShape shape : o.shapes.empty() ? kDefaultShapes : o.shapes) {
    ShapeBench bench(shape, o, peaks, done);
    bench.products();
    bench.newton_schulz_ways();
    bench.rational_powers();
  }
  PassBench passes(o, peaks, done);
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    passes.momentum(dtype);
    passes.apply(dtype);
  }
  passes.adamw();
}

Value describe_plans(MatrixShape shape, Isa isa) {
  Value ways = Value::array();
  const at::ScalarType chosen = compute_dtype(ComputeDtype::automatic, at::kFloat, isa);
  for (const ComputeWay& way : kComputeWays) {
    if (!possible(way, isa)) continue;
    bool first = true;
    for (const PolarPlan& plan : polar_plans(shape.rows, shape.cols, way.dtype, quintic({}, way.split), isa)) {
      Value restarts = Value::array();
      for (const int64_t step : plan.restarts) restarts.push_back(step);
      ways.push_back(Value::Table{{"compute", way.name},
                                  {"automatic", way.dtype == chosen && !way.split},
                                  {"iteration", std::string(enum_name(plan.iteration))},
                                  {"kernels", plan.kernels},
                                  {"restarts", std::move(restarts)},
                                  {"way", plan.describe()},
                                  {"seconds", plan.seconds},
                                  {"chosen", first}});
      first = false;
    }
  }
  return Value::Table{
      {"rows", shape.rows}, {"cols", shape.cols}, {"isa", std::string(enum_name(isa))}, {"plans", ways}};
}

}  // namespace schatten
