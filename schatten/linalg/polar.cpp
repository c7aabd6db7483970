#include <ATen/ATen.h>
#include <schatten/linalg/plain.h>
#include <schatten/linalg/polar.h>
#include <schatten/linalg/symmetric_product_impl.h>

#include <algorithm>

namespace schatten {

namespace {

using Row = std::array<double, 3>;

/// beta C + alpha A B, rounded once.
Tensor multiply_add(const Tensor& c, const Tensor& a, const Tensor& b, double beta, double alpha = 1) {
  return c.dim() == 2 ? at::addmm(c, a, b, beta, alpha) : at::baddbmm(c, a, b, beta, alpha);
}
/// The same of commuting symmetric matrices.
Tensor commuting(const Tensor& c, const Tensor& a, const Tensor& b, double beta, double alpha = 1) {
  return symmetric_product(a, b, c, beta, alpha);
}

Tensor gram_of(const Tensor& x) { return at::matmul(x, x.mT()); }

/// bA + cA^2. The order of ATen calls is that of the published codes: in bfloat16 each order rounds its own way.
Tensor quadratic(const Tensor& gram, const Row& abc, QuinticRounding rounding) {
  const auto& [a, b, c] = abc;
  if (c == 0) return gram * b;
  switch (rounding) {
    case QuinticRounding::scaled_before: return (gram * b) + at::matmul(gram * c, gram);
    case QuinticRounding::scaled_after: return (gram * b) + (at::matmul(gram, gram) * c);
    case QuinticRounding::fused: break;
  }
  return multiply_add(gram, gram, gram, b, c);
}

Tensor quintic_step(const Tensor& x, const Tensor& gram, const Row& abc, QuinticRounding rounding) {
  const Tensor inner = quadratic(gram, abc, rounding);
  return rounding == QuinticRounding::fused ? multiply_add(x, inner, x, abc[0]) : (x * abc[0]) + at::matmul(inner, x);
}

Tensor frobenius_norm(const Tensor& x) { return at::linalg_vector_norm(x, 2, at::IntArrayRef({-2, -1}), true); }
Tensor without_zeros(const Tensor& x) { return x.masked_fill(x == 0, 1); }

/// The first X, and its X X^T where that is known already.
struct Start {
  Tensor x, gram;
};

Start normalized(const Tensor& x, const NewtonSchulzOptions& o) {
  const Tensor norm = frobenius_norm(x) * o.schedule.norm_margin;
  const Tensor divisor = o.eps_mode == EpsMode::add ? norm + o.eps : norm.clamp_min(o.eps);
  return {x / (o.eps > 0 ? divisor : without_zeros(divisor)), {}};  // zero maps to zero without an eps, too
}

/// Row i of the result has length at most 1, and so has every singular value: sum_j |A_ij| bounds the eigenvalues.
Start almost_orthogonal(const Tensor& x, const NewtonSchulzOptions& o) {
  const Tensor scaled = x / without_zeros(frobenius_norm(x)), gram = gram_of(scaled);
  const Tensor sums = gram.abs().sum(-1, true).clamp_min(o.eps);  // [.., m, 1]
  const Tensor s = without_zeros(sums).rsqrt() / o.schedule.norm_margin;
  return {scaled * s, gram * s * s.mT()};
}

Tensor textbook(Start start, const std::vector<Row>& steps, QuinticRounding rounding) {
  Tensor x = std::move(start.x), gram = std::move(start.gram);
  for (const Row& abc : steps) {
    if (!gram.defined()) gram = gram_of(x);
    x = quintic_step(x, gram, abc, rounding);
    gram = Tensor();
  }
  return x;
}

/// bA + cA^2.
Tensor commuting_quadratic(const Tensor& gram, const Row& abc) {
  return abc[2] == 0 ? gram * abc[1] : commuting(gram, gram, gram, abc[1], abc[2]);
}

Tensor triangle(Start start, const std::vector<Row>& steps) {
  Tensor x = std::move(start.x), gram = std::move(start.gram);
  for (const Row& abc : steps) {
    if (!gram.defined()) gram = symmetric_product(x, x.mT());
    x = multiply_add(x, commuting_quadratic(gram, abc), x, abc[0]);
    gram = Tensor();
  }
  return x;
}

/// Z + aI. The identity stays out of Z itself: in half precision it would take the last digits of a.
Tensor plus_identity(const Tensor& z, double a) {
  Tensor q = z.clone();
  q.diagonal(0, -2, -1).add_(a);
  return q;
}

Tensor gram_iteration(Start start, const std::vector<Row>& steps, const std::vector<int64_t>& before) {
  const auto restarts = [&](size_t t) {
    return std::find(before.begin(), before.end(), static_cast<int64_t>(t)) != before.end();
  };
  Tensor x = std::move(start.x), r = start.gram.defined() ? std::move(start.gram) : symmetric_product(x, x.mT()), q;
  for (size_t t = 0; t < steps.size(); ++t) {
    if (restarts(t)) {
      x = at::matmul(q, x);
      r = symmetric_product(x, x.mT());
      q = Tensor();
    }
    const double a = steps[t][0];
    const Tensor z = commuting_quadratic(r, steps[t]);
    q = q.defined() ? commuting(q, q, z, a) : plus_identity(z, a);
    if (t + 1 == steps.size() || restarts(t + 1)) continue;
    const Tensor rz = commuting(r, r, z, a);
    r = commuting(rz, z, rz, a);
  }
  return q.defined() ? at::matmul(q, x) : x;
}

/// [short, long], one matrix or a batch.
Tensor by_aten(const Tensor& y, const PolarPlan& plan, const NewtonSchulzOptions& o) {
  Start start = o.schedule.preconditioner == Preconditioner::aol ? almost_orthogonal(y, o) : normalized(y, o);
  if (plan.iteration == PolarIteration::gram)
    return gram_iteration(std::move(start), o.schedule.coefficients, plan.restarts);
  if (plan.iteration == PolarIteration::triangle) return triangle(std::move(start), o.schedule.coefficients);
  return textbook(std::move(start), o.schedule.coefficients, o.rounding);
}

/// One matrix on a CPU.
Tensor by_kernels(const Tensor& y, const PolarPlan& plan, NewtonSchulzOptions o, Isa isa) {
  Tensor x = y;
  double norm = 0;
  if (o.schedule.preconditioner == Preconditioner::aol) {
    x = almost_orthogonal(y, o).x;  // its margin is in there
    norm = o.schedule.norm_margin = 1;
    o.eps = 0;
  } else {
    norm = frobenius_norm(x.to(at::kFloat)).item<double>();
    constexpr double kSmallest = 1e-30;  // below, 1 / norm leaves float32
    if (norm < kSmallest && o.eps < kSmallest) {
      x = normalized(x.to(at::kFloat), o).x;
      norm = o.schedule.norm_margin = 1;
      o.eps = 0;
    }
  }
  const Tensor result = at::empty(y.sizes(), y.options());
  newton_schulz_into(plan, o, isa, plain(x), norm, x.size(0), x.size(1), plain(result));
  return result;
}

}  // namespace

Tensor newton_schulz(const Tensor& x, const NewtonSchulzOptions& options, Isa isa, at::ScalarType compute) {
  TORCH_CHECK(x.dim() >= 2, "[newton_schulz] expects [.., m, n], got ", x.sizes(), ". Route vectors to adamw.");
  if (x.numel() == 0) return x.clone();
  const at::ScalarType own = x.scalar_type();
  if (compute == at::ScalarType::Undefined) compute = own;
  const PolarPlan plan = plan_polar(x.size(-2), x.size(-1), compute, options, isa, x.device());
  const bool plain_entries = own == at::kFloat || own == at::kBFloat16;
  if (plan.kernels && plain_entries && x.dim() == 2 && x.is_cpu()) return by_kernels(x, plan, options, isa);
  const bool tall = x.size(-2) > x.size(-1);
  Tensor y = x.to(compute);
  if (y.dim() > 3) y = y.reshape({-1, x.size(-2), x.size(-1)});
  if (tall) y = y.mT();
  y = by_aten(y, plan, options);
  return (tall ? y.mT() : y).reshape(x.sizes()).to(own);
}

}  // namespace schatten
