#include <ATen/ATen.h>
#include <schatten/linalg/mixture_power.h>
#include <schatten/linalg/released_power.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/spectral_power.h>

#include <cstdio>
#include <optional>

namespace schatten {

namespace {

struct SpectralPowerModel {
  SpectralPower options;
  RationalPower rational;  // fitted once, when a method may need it
  std::optional<MixturePower> mixture;
  std::shared_ptr<RationalReport> report = std::make_shared<RationalReport>();

  std::string name() const { return "spectral_power"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket& b) const {
    const at::ScalarType at_least = at_least_float32(b.dtype);
    if (options.method == PowerMethod::streaming)
      return {.name = name(), .slots = {{.name = "V", .shape = {b.cols, std::min(b.rows, b.cols)}, .dtype = at_least}}};
    const int64_t tracked = tracked_directions(options.deflate, b.rows, b.cols);
    if (tracked == 0 || options.power == 1 || method(dtype(b.dtype), b.device) != PowerMethod::rational)
      return {.name = name()};
    return {.name = name(),
            .slots = {{.name = "V",
                       .shape = {std::min(b.rows, b.cols), tracked},
                       .dtype = at_least,
                       .follows = Follows::nothing}}};
  }
  PowerMethod method(at::ScalarType dtype, at::Device device) const {
    if (options.method != PowerMethod::automatic) return options.method;
    if (dtype == at::kDouble) return PowerMethod::svd;
    return mixture && !device.is_cpu() ? PowerMethod::mixture : PowerMethod::rational;
  }
  at::ScalarType dtype(at::ScalarType input) const {
    if (options.compute == ComputeDtype::automatic) return input;
    return compute_dtype(options.compute, input, Isa::portable);  // named, whatever the instructions
  }
  Products products() const {
    return options.compute == ComputeDtype::float32 ? Products::float32 : Products::automatic;
  }
  bool exact() const { return options.method <= PowerMethod::mixture; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    if (options.power == 1 && exact()) return u.clone();
    const Tensor x = u.to(dtype(u.scalar_type()));
    return (options.method == PowerMethod::streaming ? streamed(x, s, step) : power_of(x, s, step)).to(u.scalar_type());
  }
  Tensor streamed(const Tensor& x, State& s, const Step& step) const {
    Tensor& v = s["V"];
    if (step.step == 1) v.copy_(streaming_basis(x.size(-2), x.size(-1), v.options()));
    const StreamingPower now = streaming_power(x, v, options.power);
    v.copy_(now.basis);
    return now.result;
  }
  Tensor power_of(const Tensor& x, State& s, const Step& step) const {
    switch (method(x.scalar_type(), x.device())) {
      case PowerMethod::svd: return spectral_power_svd(x, options.power);
      case PowerMethod::eigh: return spectral_power_eigh(x, options.power);
      case PowerMethod::rank: return rank_power(x, options.power);
      case PowerMethod::released:
        return released_power_ns(x, {.power = options.power,
                                     .ns_steps = options.ns_steps,
                                     .root_steps = options.root_steps,
                                     .eps = options.root_eps});
      case PowerMethod::mixture: return spectral_power_mixture(x, *mixture);
      default: break;
    }
    const RationalOptions how{.deflate = options.deflate, .products = products(), .isa = step.isa};
    const bool tracks = tracked_directions(options.deflate, x.size(-2), x.size(-1)) > 0;
    return spectral_power_rational(x, rational, report.get(), how, tracks ? &s["V"] : nullptr);
  }
  std::string noticed() const {
    const int64_t raises = report->shift_raises, fallbacks = report->eigh_fallbacks;
    if (raises + fallbacks == 0) return "";
    return std::to_string(raises) + " times a shift raised until Cholesky went through, " + std::to_string(fallbacks) +
           " times eigenvalues instead";
  }
  std::string decided(const Bucket& b, Isa isa) const {
    const at::ScalarType in = dtype(b.dtype);
    const std::string head = "power " + shortest(options.power);
    if (options.power == 1 && exact()) return "power 1: the input itself";
    switch (method(in, b.device)) {
      case PowerMethod::svd: return head + " by SVD in " + dtype_name(in);
      case PowerMethod::eigh: return head + " by eigenvalues of the float64 Gram matrix";
      case PowerMethod::rank: return head + " of the rank by SVD in " + dtype_name(in);
      case PowerMethod::streaming: return head + " by one subspace iteration a step in " + dtype_name(in);
      case PowerMethod::released:
        return head + " released as " + to_json(Value(released_exponent(options.power))) + ", Newton-Schulz roots in " +
               dtype_name(in);
      case PowerMethod::mixture:
        return head + " by a mixture of " + std::to_string(mixture->steps.size()) + " iterates in " + dtype_name(in) +
               bound(mixture->error, mixture->interval);
      default: break;
    }
    const std::string products = decided_products(this->products(), in, isa);
    return head + " by " + std::to_string(options.poles) + " Cholesky inverses in " + dtype_name(in) +
           (products.empty() ? "" : ", " + products) + bound(rational.error, rational.interval);
  }
  static std::string bound(double error, double interval) {
    return " (error <= " + shortest(100 * error) + " % above " + shortest(100 * interval) + " % of sigma_max)";
  }
  static std::string shortest(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2g", x);
    return text;
  }
  Value to_value() const { return stage_value(name(), options); }
};

}  // namespace

Stage spectral_power(const SpectralPower& o) {
  if (!(o.power >= 0 && o.power <= 1))
    fail_usage({"spectral_power", "power in [0, 1]", to_json(Value(o.power)), "0.125 is HTMuon's."});
  if (!(o.interval > 0 && o.interval < 1))
    fail_usage({"spectral_power", "interval in (0, 1)", to_json(Value(o.interval)), ""});
  if (o.poles < 1 || o.poles > 12) fail_usage({"spectral_power", "poles from 1 to 12", std::to_string(o.poles), ""});
  if (o.deflate < 0 || o.deflate > 128)
    fail_usage({"spectral_power", "deflate from 0 to 128 directions", std::to_string(o.deflate), ""});
  if (o.compute == ComputeDtype::bfloat16x2 && o.method != PowerMethod::rational && o.method != PowerMethod::automatic)
    fail_usage({"spectral_power", "compute = \"bfloat16x2\" with method rational",
                "method " + std::string(enum_name(o.method)), "float32 is the others'."});
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
  SpectralPowerModel model{.options = o};
  const bool chosen = o.method == PowerMethod::automatic;
  if (o.power < 1 && (chosen || o.method == PowerMethod::rational))
    model.rational = fit_rational_power(o.power, o.interval, o.poles);
  if (o.power < 1 && (o.method == PowerMethod::mixture || (chosen && has_mixture(o.power))))
    model.mixture = mixture_power(o.power, o.interval);
  return model;
}

SpectralMap exact_twin(const SpectralPower& o) {
  if (o.method == PowerMethod::rank)
    fail_usage(
        {"exact_twin", "a function of singular values", "method = \"rank\", which goes by their order alone", ""});
  return power_map(o.method == PowerMethod::released ? released_exponent(o.power) : o.power);
}

}  // namespace schatten
