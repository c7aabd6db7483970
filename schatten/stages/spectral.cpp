#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/spectral.h>

#include <cstdio>

namespace schatten {

namespace {

struct OrthogonalizeModel {
  Orthogonalize options;
  NewtonSchulzOptions iteration;

  std::string name() const { return "orthogonalize"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step&) const {
    const Tensor x = u.to(compute_dtype(options.compute, u.scalar_type()), false, true);
    return newton_schulz(x, iteration).to(u.scalar_type());
  }
  std::string decided(at::ScalarType dtype) const {
    return options.schedule + " Newton-Schulz, " + std::to_string(options.steps) + " steps in " +
           dtype_name(compute_dtype(options.compute, dtype));
  }
  Value to_value() const { return stage_value(name(), options); }
};

struct ExactPolarModel {
  Orthogonalize options;
  std::string name() const { return "orthogonalize"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
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
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  PowerMethod method(at::ScalarType dtype) const {
    if (options.method != PowerMethod::automatic) return options.method;
    return dtype == at::kDouble ? PowerMethod::svd : PowerMethod::rational;
  }
  at::ScalarType dtype(at::ScalarType input) const {
    return options.compute == ComputeDtype::automatic ? input : compute_dtype(options.compute, input);
  }
  Tensor apply(const Tensor& u, State&, const Step&) const {
    if (options.power == 1) return u.clone();
    return power_of(u.to(dtype(u.scalar_type()))).to(u.scalar_type());
  }
  Tensor power_of(const Tensor& x) const {
    switch (method(x.scalar_type())) {
      case PowerMethod::svd: return spectral_power_svd(x, options.power);
      case PowerMethod::eigh: return spectral_power_eigh(x, options.power);
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
    if (options.power == 1) return "power 1: the input itself";
    switch (method(dtype(input))) {
      case PowerMethod::svd: return head + ("by SVD" + in);
      case PowerMethod::eigh: return head + std::string("by eigenvalues of the float64 Gram matrix");
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

Stage orthogonalize(const Orthogonalize& o) {
  check_non_negative("orthogonalize", "eps", o.eps);
  if (o.schedule == "exact") return ExactPolarModel{o};
  if (o.steps < 1 || o.steps > 100) fail_usage({"orthogonalize", "steps from 1 to 100", std::to_string(o.steps), ""});
  return OrthogonalizeModel{o, {polynomial_schedule(o.schedule, o.steps), o.eps, o.eps_mode, o.rounding}};
}

Stage spectral_power(const SpectralPower& o) {
  if (!(o.power >= 0 && o.power <= 1))
    fail_usage({"spectral_power", "power in [0, 1]", to_json(Value(o.power)), "0.125 is HTMuon's."});
  if (!(o.interval > 0 && o.interval < 1))
    fail_usage({"spectral_power", "interval in (0, 1)", to_json(Value(o.interval)), ""});
  if (o.poles < 1 || o.poles > 12) fail_usage({"spectral_power", "poles from 1 to 12", std::to_string(o.poles), ""});
  if (o.compute == ComputeDtype::bfloat16)
    fail_usage({"spectral_power", "compute auto, float32 or float64", "bfloat16",
                "SVD, eigenvalues and Cholesky have no bfloat16 form."});
  const bool fits = o.power < 1 && (o.method == PowerMethod::rational || o.method == PowerMethod::automatic);
  return SpectralPowerModel{o, fits ? fit_rational_power(o.power, o.interval, o.poles) : RationalPower{}};
}

SpectralMap exact_twin(const SpectralPower& o) { return power_map(o.power); }

}  // namespace schatten
