#include <ATen/ATen.h>
#include <schatten/core/text.h>
#include <schatten/linalg/svd_impl.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/cosmos.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

Tensor frobenius(const Tensor& x) { return at::linalg_vector_norm(x, 2, at::IntArrayRef({-2, -1}), true); }

/// Leading right singular vectors, [.., n, r]. LAPACK would throw on NaN: it stays NaN.
Tensor leading(const Tensor& g, int64_t rank) {
  const Tensor finite = g.isfinite().all(-1, true).all(-2, true);
  const Tensor vh = std::get<2>(at::linalg_svd(at::where(finite, g, at::zeros_like(g)), false));
  return at::where(finite, vh.mT().narrow(-1, 0, rank), at::full({}, NAN, g.options()));
}

struct CosmosModel {
  Cosmos options;
  Stage polar;

  std::string name() const { return "cosmos_direction"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  Value to_value() const { return stage_value(name(), options); }
  std::string decided(const Bucket& b, Isa isa) const {
    return b.parameter && on_adam(*b.parameter, b.rows) ? "" : polar.decided(b, isa);
  }

  bool on_adam(const ParameterInfo& p, int64_t rows) const {
    const bool matrix = options.released ? p.shape.size() == 2 : p.shape.size() >= 2;
    return !matrix || rows > options.max_rows;
  }
  int64_t rank(int64_t rows, int64_t cols) const;
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Tensor adam(const Tensor& g, State& s, double t) const;
  Tensor momentum(const Tensor& g, State& s, double t) const;
  void move_subspace(const Tensor& g, State& s, int64_t t) const;
};

int64_t CosmosModel::rank(int64_t rows, int64_t cols) const {
  const int64_t most = std::min(rows, cols);
  if (options.rank < 1) return std::max<int64_t>(1, static_cast<int64_t>(options.rank * static_cast<double>(most)));
  if (options.rank > static_cast<double>(most))
    fail_usage({"cosmos_direction", "rank up to the smaller side, " + std::to_string(most),
                to_json(Value(options.rank)), "A rank below 1 is a share of the smaller side."});
  return static_cast<int64_t>(options.rank);
}

StateSpec CosmosModel::state(const Bucket& b) const {
  SlotSpec squares{.name = "exp_avg_sq", .follows = Follows::permutation};
  if (on_adam(*b.parameter, b.rows)) return {.name = name(), .slots = {{"momentum_buffer"}, squares}};
  const int64_t r = rank(b.rows, b.cols);
  squares.shape = {b.rows, r};
  squares.follows = Follows::rotation;  // its columns belong to P
  const at::ScalarType dtype = at_least_float32(b.dtype);
  return {.name = name(),
          .slots = {{"momentum_buffer"},
                    squares,
                    {.name = "P", .shape = {b.cols, r}, .dtype = dtype},
                    {.name = "Gam", .shape = {r, r}, .dtype = dtype}}};
}

Tensor CosmosModel::adam(const Tensor& g, State& s, double t) const {
  Tensor &m = s["momentum_buffer"], &v = s["exp_avg_sq"];
  m.mul_(options.beta1).add_(g, options.released ? 0.1 : 1 - options.beta1);
  v.mul_(options.beta2).addcmul_(g, g, 1 - options.beta2);
  const double correction1 = 1 - std::pow(options.released ? 0.9 : options.beta1, t);
  const double root_correction2 = std::sqrt(1 - std::pow(options.beta2, t));
  return m.div(v.sqrt().div_(root_correction2).add_(options.eps)).div_(correction1);
}

/// Gh: the gradient with momentum, its scale that of one gradient.
Tensor CosmosModel::momentum(const Tensor& g, State& s, double t) const {
  Tensor& m = s["momentum_buffer"];
  m.mul_(options.beta1).add_(g);
  const double sum = (1 - std::pow(options.beta1, t)) / (1 - options.beta1);
  if (options.nesterov) return g.add(m, options.beta1).div_(1 + options.beta1 * sum);
  return (options.released ? g : m).div(sum);
}

void CosmosModel::move_subspace(const Tensor& g, State& s, int64_t t) const {
  Tensor &p = s["P"], &gam = s["Gam"];
  const double keep = options.beta2;
  const auto gram = [&](const Tensor& basis) {
    const Tensor gp = at::matmul(g, basis);
    return at::matmul(gp.mT(), gp).mul_(1 - keep);
  };
  if (t == 1) {
    p.copy_(leading(g, p.size(-1)));
    gam.copy_(gram(p));
    return;
  }
  const Tensor moved = at::matmul(p, gam).mul_(keep).add_(at::matmul(g.mT(), at::matmul(g, p)), 1 - keep);
  const Tensor basis = std::get<0>(at::linalg_qr(moved)), turn = at::matmul(p.mT(), basis);
  gam.copy_(at::matmul(turn.mT(), at::matmul(gam, turn)).mul_(keep).add_(gram(basis)));
  p.copy_(basis);
}

Tensor CosmosModel::apply(const Tensor& u, State& s, const Step& step) const {
  const auto t = static_cast<double>(step.step);
  if (on_adam(step.parameter, u.size(-2))) return adam(u, s, t);
  const Tensor raw = u.to(at_least_float32(u.scalar_type())), g = momentum(raw, s, t);
  move_subspace(raw, s, step.step);
  const Tensor &p = s["P"], low = at::matmul(raw, p);
  Tensor& v = s["exp_avg_sq"];
  v.mul_(options.beta2).addcmul_(low, low, 1 - options.beta2);
  const Tensor denominator = v.sqrt().div_(std::sqrt(1 - std::pow(options.beta2, t))).add_(options.eps);
  const Tensor inside = at::matmul(g, p);
  Tensor rest = g.sub(at::matmul(inside, p.mT()));
  const double noise = rank_floor(u.scalar_type(), u.size(-2), u.size(-1));
  rest = at::where(frobenius(rest) <= frobenius(g) * noise, at::zeros_like(rest), rest);
  State none;
  const Tensor outside = polar.apply(rest, none, step);
  const double size = std::sqrt(static_cast<double>(u.size(-2) * u.size(-1)));
  const Tensor sum = at::matmul(inside.div(denominator), p.mT())
                         .add_(outside.div(frobenius(outside).add_(options.eps)), options.gamma * size);
  return sum.div(frobenius(sum).add_(options.eps)).mul_(options.lr_ratio * size).to(u.scalar_type());
}

}  // namespace

Stage cosmos_direction(const Cosmos& o) {
  check_share("cosmos_direction", "beta1", o.beta1);
  check_share("cosmos_direction", "beta2", o.beta2);
  check_non_negative("cosmos_direction", "eps", o.eps);
  check_positive("cosmos_direction", "rank", o.rank);
  check_positive("cosmos_direction", "lr_ratio", o.lr_ratio);
  check_non_negative("cosmos_direction", "gamma", o.gamma);
  if (o.max_rows < 1) fail_usage({"cosmos_direction", "max_rows >= 1", std::to_string(o.max_rows), ""});
  return CosmosModel{o, orthogonalize(o.polar)};
}

}  // namespace schatten
