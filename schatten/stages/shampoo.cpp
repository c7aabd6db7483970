#include <ATen/ATen.h>
#include <schatten/linalg/svd_impl.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/shampoo.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace schatten {

namespace {

/// (S + eps I)^power for power < 0, and 0 for S = 0 without eps. Below `noise` lambda_max nothing is known.
Tensor inverse_root(const Tensor& s, double power, double eps, double noise, Isa isa) {
  const auto [values, vectors] = at::linalg_eigh(s);
  const double lowest = noise * values[-1].item<double>();
  const Tensor known = values.clamp_min(std::max(lowest, 0.0)) + eps;
  const Tensor roots = at::where(known > 0, known.pow(power), at::zeros_like(known));
  return gram_of_rows(vectors * roots.sqrt(), Products::float32, isa);
}

/// A B and X X^T, batches by ATen.
Tensor product(const Tensor& a, const Tensor& b, Products how, Isa isa) {
  return a.dim() == 2 ? multiply(a, b, how, isa) : at::matmul(a, b);
}
Tensor gram(const Tensor& x, Products how, Isa isa) {
  return x.dim() == 2 ? gram_of_rows(x, how, isa) : at::matmul(x, x.mT());
}

struct ShampooModel {
  Shampoo options;

  std::string name() const { return "shampoo_precondition"; }
  Traits traits() const { return {.locality = Locality::matrix, .takes_vectors = false}; }
  Value to_value() const { return stage_value(name(), options); }
  std::string decided(const Bucket& b, Isa isa) const { return decided_products(options.products, b.dtype, isa); }

  bool left(int64_t rows, int64_t cols) const {
    return rows <= options.max_dim && (options.sides == ShampooSides::both || rows <= cols || cols > options.max_dim);
  }
  bool right(int64_t rows, int64_t cols) const {
    return cols <= options.max_dim && (options.sides == ShampooSides::both || rows > cols || rows > options.max_dim);
  }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Tensor root(const std::string& side, const Tensor& gram, double power, State& s, const Step& step) const;
  Tensor renewed(const Tensor& statistics, double power, const Step& step) const;
};

StateSpec ShampooModel::state(const Bucket& b) const {
  const bool l = left(b.rows, b.cols), r = right(b.rows, b.cols);
  if (!l && !r)
    fail_usage({"shampoo_precondition", "a side of at most max_dim = " + std::to_string(options.max_dim) + " entries",
                std::to_string(b.rows) + " x " + std::to_string(b.cols), "Raise max_dim, or route it to adamw."});
  const at::ScalarType dtype = at_least_float32(b.dtype);
  StateSpec spec{.name = name()};
  const auto add = [&](const char* slot, int64_t d) {
    spec.slots.push_back({.name = slot, .shape = {d, d}, .dtype = dtype});
    if (options.every > 1) spec.slots.push_back({.name = std::string(slot) + "_root", .shape = {d, d}, .dtype = dtype});
  };
  if (l) add("L", b.rows);
  if (r) add("R", b.cols);
  return spec;
}

Tensor ShampooModel::renewed(const Tensor& statistics, double power, const Step& step) const {
  const bool ema = options.accumulation == Accumulation::ema;
  const Tensor read = ema ? statistics / (1 - std::pow(options.beta, static_cast<double>(step.step))) : statistics;
  const Tensor s = options.compute == ComputeDtype::float64 ? read.to(at::kDouble) : read;
  const double noise = rank_floor(read.scalar_type(), s.size(-2), s.size(-1));
  return with_each_matrix(s, [&](const Tensor& x) { return inverse_root(x, power, options.eps, noise, step.isa); })
      .to(statistics.scalar_type());
}

Tensor ShampooModel::root(const std::string& side, const Tensor& gram, double power, State& s, const Step& step) const {
  Tensor& statistics = s[side];
  if (options.accumulation == Accumulation::sum) statistics.add_(gram);
  else statistics.lerp_(gram, 1 - options.beta);
  if (options.every == 1) return renewed(statistics, power, step);
  Tensor& kept = s[side + "_root"];
  const int64_t t = step.step;
  if (t <= options.every || t % options.every == 0) kept.copy_(renewed(statistics, power, step));
  return kept;
}

Tensor ShampooModel::apply(const Tensor& u, State& s, const Step& step) const {
  const Tensor g = u.to(at_least_float32(u.scalar_type()));
  const bool l = left(g.size(-2), g.size(-1)), r = right(g.size(-2), g.size(-1));
  const double power = l && r ? -0.25 : -0.5;
  Tensor x = g;
  const Products how = options.products;
  if (l) x = product(root("L", gram(g, how, step.isa), power, s, step), x, how, step.isa);
  if (r) x = product(x, root("R", gram(g.mT(), how, step.isa), power, s, step), how, step.isa);
  return x.to(u.scalar_type());
}

}  // namespace

Stage shampoo_precondition(const Shampoo& o) {
  check_share("shampoo_precondition", "beta", o.beta);
  check_non_negative("shampoo_precondition", "eps", o.eps);
  if (o.every < 1) fail_usage({"shampoo_precondition", "every >= 1", std::to_string(o.every), ""});
  if (o.max_dim < 1) fail_usage({"shampoo_precondition", "max_dim >= 1", std::to_string(o.max_dim), ""});
  if (o.compute == ComputeDtype::bfloat16 || o.compute == ComputeDtype::bfloat16x2)
    fail_usage({"shampoo_precondition", "compute auto, float32 or float64", std::string(enum_name(o.compute)),
                "Eigenvalues have no bfloat16 form."});
  return ShampooModel{o};
}

}  // namespace schatten
