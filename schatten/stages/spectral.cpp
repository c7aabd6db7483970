#include <ATen/ATen.h>
#include <schatten/linalg/released_power.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/spectral.h>

#include <cmath>
#include <cstdio>

namespace schatten {

namespace {

struct OrthogonalizeModel {
  Orthogonalize options;
  NewtonSchulzOptions iteration;

  std::string name() const { return "orthogonalize"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step&) const {
    const Tensor x = u.to(compute_dtype(options.compute, u.scalar_type()), false, true);
    return newton_schulz(x, iteration).to(u.scalar_type());
  }
  std::string decided(at::ScalarType dtype) const {
    const std::string form = options.iteration == PolarIteration::gram ? " Gram Newton-Schulz, " : " Newton-Schulz, ";
    return iteration.schedule.name + form + std::to_string(iteration.schedule.coefficients.size()) + " steps in " +
           dtype_name(compute_dtype(options.compute, dtype));
  }
  Value to_value() const { return stage_value(name(), options); }
};

struct ExactPolarModel {
  Orthogonalize options;
  std::string name() const { return "orthogonalize"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step&) const { return spectral_power_svd(u, 0); }
  std::string decided(at::ScalarType dtype) const { return "polar factor by SVD in " + dtype_name(dtype); }
  Value to_value() const { return stage_value(name(), options); }
};

struct SpectralPowerModel {
  SpectralPower options;
  RationalPower rational;  // fitted once, when a method may need it
  std::shared_ptr<RationalReport> report = std::make_shared<RationalReport>();

  std::string name() const { return "spectral_power"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket& b) const {
    if (options.method != PowerMethod::streaming) return {.name = name()};
    const at::ScalarType dtype = at_least_float32(b.dtype);
    return {.name = name(), .slots = {{.name = "V", .shape = {b.cols, std::min(b.rows, b.cols)}, .dtype = dtype}}};
  }
  PowerMethod method(at::ScalarType dtype) const {
    if (options.method != PowerMethod::automatic) return options.method;
    return dtype == at::kDouble ? PowerMethod::svd : PowerMethod::rational;
  }
  at::ScalarType dtype(at::ScalarType input) const {
    return options.compute == ComputeDtype::automatic ? input : compute_dtype(options.compute, input);
  }
  bool exact() const { return options.method <= PowerMethod::rational; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    if (options.power == 1 && exact()) return u.clone();
    const Tensor x = u.to(dtype(u.scalar_type()));
    return (options.method == PowerMethod::streaming ? streamed(x, s, step) : power_of(x)).to(u.scalar_type());
  }
  Tensor streamed(const Tensor& x, State& s, const Step& step) const {
    Tensor& v = s["V"];
    if (step.step == 1) v.copy_(streaming_basis(x.size(-2), x.size(-1), v.options()));
    const StreamingPower now = streaming_power(x, v, options.power);
    v.copy_(now.basis);
    return now.result;
  }
  Tensor power_of(const Tensor& x) const {
    switch (method(x.scalar_type())) {
      case PowerMethod::svd: return spectral_power_svd(x, options.power);
      case PowerMethod::eigh: return spectral_power_eigh(x, options.power);
      case PowerMethod::rank: return rank_power(x, options.power);
      case PowerMethod::released:
        return released_power_ns(x, {.power = options.power,
                                     .ns_steps = options.ns_steps,
                                     .root_steps = options.root_steps,
                                     .eps = options.root_eps});
      default: return spectral_power_rational(x, rational, report.get());
    }
  }
  std::string noticed() const {
    const int64_t raises = report->shift_raises, fallbacks = report->eigh_fallbacks;
    if (raises + fallbacks == 0) return "";
    return std::to_string(raises) + " times a shift raised until Cholesky went through, " + std::to_string(fallbacks) +
           " times eigenvalues instead";
  }
  std::string decided(at::ScalarType input) const {
    char head[32], bound[96];
    std::snprintf(head, sizeof head, "power %g ", options.power);
    std::snprintf(bound, sizeof bound, " (error <= %.2g %% above %.2g %% of sigma_max)", 100 * rational.error,
                  100 * options.interval);
    const std::string in = " in " + dtype_name(dtype(input));
    if (options.power == 1 && exact()) return "power 1: the input itself";
    switch (method(dtype(input))) {
      case PowerMethod::svd: return head + ("by SVD" + in);
      case PowerMethod::eigh: return head + std::string("by eigenvalues of the float64 Gram matrix");
      case PowerMethod::rank: return head + ("of the rank by SVD" + in);
      case PowerMethod::streaming: return head + ("by one subspace iteration a step" + in);
      case PowerMethod::released:
        return head +
               ("released as " + to_json(Value(released_exponent(options.power))) + ", Newton-Schulz roots" + in);
      default: return head + ("by " + std::to_string(options.poles) + " Cholesky inverses" + in + bound);
    }
  }
  Value to_value() const { return stage_value(name(), options); }
};

}  // namespace

bool cpu_multiplies_bfloat16() {
  return __builtin_cpu_supports("avx512bf16") != 0;  // every CPU with AMX has it too
}

at::ScalarType compute_dtype(ComputeDtype choice, at::ScalarType input) {
  switch (choice) {
    case ComputeDtype::bfloat16: return at::kBFloat16;
    case ComputeDtype::float32: return at::kFloat;
    case ComputeDtype::float64: return at::kDouble;
    case ComputeDtype::automatic: break;
  }
  if (input == at::kDouble) return at::kDouble;
  return cpu_multiplies_bfloat16() ? at::kBFloat16 : at::kFloat;
}

namespace {

PolynomialSchedule schedule_of(const Orthogonalize& o) {
  if (o.norm_margin != 0 && !(o.norm_margin >= 1 && std::isfinite(o.norm_margin)))
    fail_usage({"orthogonalize", "norm_margin >= 1, or 0 for the schedule's own", to_json(Value(o.norm_margin)), ""});
  if (o.coefficients.empty()) {
    PolynomialSchedule schedule = polynomial_schedule(o.schedule, o.steps);
    if (o.norm_margin != 0) schedule.norm_margin = o.norm_margin;
    return schedule;
  }
  std::vector<std::array<double, 3>> rows;
  for (const std::vector<double>& row : o.coefficients) {
    if (row.size() != 3)
      fail_usage({"orthogonalize", "coefficients as [[a, b, c], ...]", std::to_string(row.size()) + " numbers in one",
                  "A cubic step has c = 0."});
    rows.push_back({row[0], row[1], row[2]});
  }
  return polynomial_schedule(std::move(rows), o.norm_margin != 0 ? o.norm_margin : 1);
}

}  // namespace

Stage orthogonalize(const Orthogonalize& o) {
  check_non_negative("orthogonalize", "eps", o.eps);
  if (o.schedule == "exact") return ExactPolarModel{o};
  if (o.steps < 0 || o.steps > 100)
    fail_usage({"orthogonalize", "steps from 1 to 100, or 0 for as published", std::to_string(o.steps), ""});
  for (const int64_t t : o.restarts)
    if (t < 0) fail_usage({"orthogonalize", "restarts counted from 0", std::to_string(t), ""});
  return OrthogonalizeModel{o, {schedule_of(o), o.eps, o.eps_mode, o.rounding, o.iteration, o.restarts}};
}

Stage spectral_power(const SpectralPower& o) {
  if (!(o.power >= 0 && o.power <= 1))
    fail_usage({"spectral_power", "power in [0, 1]", to_json(Value(o.power)), "0.125 is HTMuon's."});
  if (!(o.interval > 0 && o.interval < 1))
    fail_usage({"spectral_power", "interval in (0, 1)", to_json(Value(o.interval)), ""});
  if (o.poles < 1 || o.poles > 12) fail_usage({"spectral_power", "poles from 1 to 12", std::to_string(o.poles), ""});
  if (o.compute == ComputeDtype::bfloat16 && o.method != PowerMethod::released)
    fail_usage({"spectral_power", "compute auto, float32 or float64", "bfloat16",
                "SVD, eigenvalues and Cholesky have no bfloat16 form."});
  if (o.ns_steps < 1 || o.ns_steps > 100 || o.root_steps < 1 || o.root_steps > 100)
    fail_usage({"spectral_power", "ns_steps and root_steps from 1 to 100",
                std::to_string(o.ns_steps) + " and " + std::to_string(o.root_steps), ""});
  check_non_negative("spectral_power", "root_eps", o.root_eps);
  if (o.method == PowerMethod::released && o.power == 0)
    fail_usage({"spectral_power", "power in (0, 1] with method = \"released\"", "0",
                "power = 0 is the polar factor: use svd, or the stage orthogonalize."});
  const bool fits = o.power < 1 && (o.method == PowerMethod::rational || o.method == PowerMethod::automatic);
  return SpectralPowerModel{o, fits ? fit_rational_power(o.power, o.interval, o.poles) : RationalPower{}};
}

SpectralMap exact_twin(const SpectralPower& o) {
  if (o.method == PowerMethod::rank)
    fail_usage(
        {"exact_twin", "a function of singular values", "method = \"rank\", which goes by their order alone", ""});
  return power_map(o.method == PowerMethod::released ? released_exponent(o.power) : o.power);
}

}  // namespace schatten
