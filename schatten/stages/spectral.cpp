#include <ATen/ATen.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/spectral.h>

#include <cmath>

namespace schatten {

namespace {

struct OrthogonalizeModel {
  Orthogonalize options;
  NewtonSchulzOptions iteration;

  std::string name() const { return "orthogonalize"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step& step) const {
    const at::ScalarType compute = compute_dtype(options.compute, u.scalar_type(), step.isa, u.device());
    return newton_schulz(u, iteration, step.isa, compute);
  }
  std::string decided(const Bucket& b, Isa isa) const {
    const std::string head = iteration.schedule.name + " Newton-Schulz",
                      steps = ", " + std::to_string(iteration.schedule.coefficients.size()) + " steps";
    const at::ScalarType compute = compute_dtype(options.compute, b.dtype, isa, b.device);
    if (b.rows > 0)
      return head + steps + ": " + plan_polar(b.rows, b.cols, compute, iteration, isa, b.device).describe();
    const bool split = iteration.split_bfloat16 && block_kernels(isa, Arithmetic::bfloat16x2);
    const bool chosen = options.iteration == PolarIteration::automatic;
    return head + (chosen ? "" : " by " + std::string(enum_name(options.iteration))) + steps + " in " +
           (split ? "bfloat16x2" : dtype_name(compute));
  }
  Value to_value() const { return stage_value(name(), options); }
};

struct ExactPolarModel {
  Orthogonalize options;
  std::string name() const { return "orthogonalize"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step&) const { return spectral_power_svd(u, 0); }
  std::string decided(const Bucket& b, Isa) const { return "polar factor by SVD in " + dtype_name(b.dtype); }
  Value to_value() const { return stage_value(name(), options); }
};

}  // namespace

at::ScalarType compute_dtype(ComputeDtype choice, at::ScalarType input, Isa isa, at::Device device) {
  switch (choice) {
    case ComputeDtype::bfloat16: return at::kBFloat16;
    case ComputeDtype::bfloat16x2:
    case ComputeDtype::float32: return at::kFloat;
    case ComputeDtype::float64: return at::kDouble;
    case ComputeDtype::automatic: break;
  }
  if (input == at::kDouble) return at::kDouble;
  return !device.is_cpu() || bfloat16_pays(isa) ? at::kBFloat16 : at::kFloat;
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

NewtonSchulzOptions newton_schulz_options(const Orthogonalize& o) {
  check_non_negative("orthogonalize", "eps", o.eps);
  if (o.steps < 0 || o.steps > 100)
    fail_usage({"orthogonalize", "steps from 1 to 100, or 0 for as published", std::to_string(o.steps), ""});
  for (const int64_t t : o.restarts)
    if (t < 0) fail_usage({"orthogonalize", "restarts counted from 0", std::to_string(t), ""});
  return {
      schedule_of(o), o.eps, o.eps_mode, o.rounding, o.iteration, o.restarts, o.compute == ComputeDtype::bfloat16x2};
}

Stage orthogonalize(const Orthogonalize& o) {
  check_non_negative("orthogonalize", "eps", o.eps);
  if (o.schedule == "exact") return ExactPolarModel{o};
  return OrthogonalizeModel{o, newton_schulz_options(o)};
}

}  // namespace schatten
