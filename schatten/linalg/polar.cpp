#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/value.h>
#include <schatten/linalg/polar.h>

namespace schatten {

double PolynomialSchedule::operator()(double s) const {
  for (const auto& [a, b, c] : coefficients) {
    const double q = s * s;
    s *= a + q * (b + q * c);
  }
  return s;
}

PolynomialSchedule polynomial_schedule(std::string_view name, int steps) {
  const auto repeated = [&](std::array<double, 3> abc, int published) {
    return std::vector<std::array<double, 3>>(static_cast<size_t>(steps > 0 ? steps : published), abc);
  };
  if (name == "quintic")
    return {
        "quintic", repeated({3.4445, -4.7750, 2.0315}, 5), 1.0, {0.68, 1.14}, "Jordan et al. 2024, KellerJordan/Muon"};
  if (name == "cubic")
    return {"cubic", repeated({1.5, -0.5, 0}, 15), 1.0, {0.0, 1.0}, "Newton-Schulz; converges from (0, sqrt 3)"};
  const auto known = polynomial_schedule_names();
  const std::string near = nearest(name, known);
  fail_usage({"polynomial schedule", "quintic or cubic", "'" + std::string(name) + "'",
              near.empty() ? "" : "Did you mean '" + near + "'?"});
}

std::vector<std::string> polynomial_schedule_names() { return {"quintic", "cubic"}; }

namespace {

// The order of ATen calls is that of the published codes: in bfloat16 each order rounds its own way.
Tensor quintic_step(const Tensor& x, const std::array<double, 3>& abc, QuinticRounding rounding) {
  const auto& [a, b, c] = abc;
  const Tensor gram = at::matmul(x, x.mT());
  switch (rounding) {
    case QuinticRounding::scaled_before: return (x * a) + at::matmul((gram * b) + at::matmul(gram * c, gram), x);
    case QuinticRounding::scaled_after: return (x * a) + at::matmul((gram * b) + (at::matmul(gram, gram) * c), x);
    case QuinticRounding::fused: break;
  }
  if (x.dim() == 2) return at::addmm(x, at::addmm(gram, gram, gram, b, c), x, a, 1);
  return at::baddbmm(x, at::baddbmm(gram, gram, gram, b, c), x, a, 1);
}

Tensor normalized(const Tensor& x, const NewtonSchulzOptions& o) {
  const Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef({-2, -1}), true) * o.schedule.norm_margin;
  const Tensor divisor = o.eps_mode == EpsMode::add ? norm + o.eps : norm.clamp_min(o.eps);
  return x / (o.eps > 0 ? divisor : divisor.masked_fill(divisor == 0, 1));  // zero maps to zero without an eps, too
}

}  // namespace

Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options) {
  TORCH_CHECK(x.dim() >= 2, "[newton_schulz] expects [.., m, n], got ", x.sizes(), ". Route vectors to adamw.");
  if (x.numel() == 0) return x.clone();
  const bool tall = x.size(-2) > x.size(-1);
  const auto shape = x.sizes();
  Tensor y = x.dim() > 3 ? x.reshape({-1, x.size(-2), x.size(-1)}) : x;
  y = normalized(tall ? y.mT() : y, options);
  for (const auto& abc : options.schedule.coefficients) y = quintic_step(y, abc, options.rounding);
  return (tall ? y.mT() : y).reshape(shape);
}

}  // namespace schatten
