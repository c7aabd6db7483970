#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/text.h>
#include <schatten/linalg/polar.h>
#include <schatten/linalg/released_power.h>
#include <schatten/linalg/svd_impl.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace schatten {

namespace {

constexpr double kEps = 1e-6;       // of the unused accelerators
constexpr double kQrEps = 1e-8;     // of the streaming form
constexpr double kPolarEps = 1e-7;  // of the quintic

void check_matrix(const Tensor& x) {
  TORCH_CHECK(x.dim() >= 2, "[released power] expects [.., m, n], got ", x.sizes(), ". Route vectors to adamw.");
}

int square_roots(double power) {
  if (power > 0 && power <= 1) return static_cast<int>(std::nearbyint(1 - std::log2(power)));
  std::string got;
  append_real(got, power);
  fail_usage(
      {"released power", "power in (0, 1]", got, "spectral_power takes 0, too; orthogonalize is its faster form."});
}

/// float64 stays, everything else is float32: as released.
Tensor working(const Tensor& x) { return x.to(at_least_float32(x.scalar_type())); }

Tensor add_identity(Tensor s, double eps) {
  s.diagonal(0, -2, -1).add_(eps);
  return s;
}
Tensor column_gram(const Tensor& x, double eps) { return add_identity(at::matmul(x.mT(), x), eps); }
Tensor symmetric(const Tensor& s) { return (s + s.mT()) / 2; }
Tensor scale_of(const Tensor& s, double eps) {
  return at::linalg_vector_norm(s, 2, at::IntArrayRef({-2, -1}), true).clamp_min(eps);
}

/// After `steps` coupled steps Y ~ (S / alpha)^(1/2) and Z ~ (S / alpha)^(-1/2).
struct CoupledRoot {
  Tensor alpha, y, z;
};
CoupledRoot coupled_root(const Tensor& s, int steps, double eps) {
  const Tensor alpha = scale_of(s, eps);
  Tensor y = s / alpha, z = at::eye(s.size(-1), s.options()).expand(s.sizes());
  for (int i = 0; i < steps; ++i) {
    const Tensor t = add_identity(at::matmul(z, y).neg_(), 3);
    y = at::matmul(y, t).div_(2);
    z = at::matmul(t, z).div_(2);
  }
  return {alpha, y, z};
}

Tensor coupled_square_root(const Tensor& s, int steps, double eps) {
  const CoupledRoot root = coupled_root(s, steps, eps);
  return root.alpha.sqrt() * root.y;
}

Tensor taylor_square_root(const Tensor& s, double eps) {
  const Tensor alpha = scale_of(s, eps), e = add_identity(s / alpha, -1), e2 = at::matmul(e, e);
  const Tensor sum = e / 2 - e2 / 8 + at::matmul(e2, e) / 16 - at::matmul(e2, e2) * (5.0 / 128);
  return alpha.sqrt() * add_identity(sum, 1);
}

using Root = std::function<Tensor(const Tensor&)>;

/// (X^T X + eps I)^(1 / 2^times), as far as `root` is one.
Tensor nested_roots(const Tensor& x, int times, double eps, const Root& root) {
  Tensor s = column_gram(working(x), eps);
  for (int i = 0; i < times; ++i) s = add_identity(symmetric(root(s)), eps);
  return s;
}
Tensor nested_coupled_roots(const Tensor& x, int times, int steps, double eps) {
  return nested_roots(x, times, eps, [&](const Tensor& s) { return coupled_square_root(s, steps, eps); });
}

Tensor polar(const Tensor& x, const char* schedule, int steps, double eps) {
  return newton_schulz(
      x, {.schedule = polynomial_schedule(schedule, steps), .eps = eps, .rounding = QuinticRounding::scaled_before});
}

}  // namespace

double released_exponent(double power) { return std::exp2(1 - square_roots(power)); }

Tensor released_power_ns(const Tensor& x, const ReleasedPower& o) {
  check_matrix(x);
  const int times = square_roots(o.power);
  if (x.numel() == 0) return x.clone();
  const Tensor root = nested_coupled_roots(x, times, o.root_steps, o.eps);
  return at::matmul(polar(x, "quintic", o.ns_steps, kPolarEps), root.to(x.scalar_type()));
}

Tensor rank_power(const Tensor& x, double power) {
  return with_each_matrix(x, [&](const Tensor& matrix) {
    const auto [u, s, vh] = at::linalg_svd(matrix, false);
    const Tensor rank = at::arange(1, s.numel() + 1, s.options());
    return at::mm(u * rank.pow(-power), vh);
  });
}

Tensor released_power_accv2(const Tensor& x, double power, int steps) {
  check_matrix(x);
  const int times = square_roots(power);
  if (x.numel() == 0) return x.clone();
  const Tensor root = nested_coupled_roots(x, times, steps, kEps);
  return at::matmul(polar(working(x), "cubic", steps, kEps), root).to(x.scalar_type());
}

Tensor released_power_accv3(const Tensor& x, double power) {
  check_matrix(x);
  const int times = square_roots(power);
  if (x.numel() == 0) return x.clone();
  const Tensor root = nested_roots(x, times, kEps, [](const Tensor& s) { return taylor_square_root(s, kEps); });
  return at::matmul(polar(x, "quintic", 5, kPolarEps), root.to(x.scalar_type()));
}

Tensor released_power_accv4(const Tensor& x) {
  check_matrix(x);
  if (x.numel() == 0) return x.clone();
  const CoupledRoot last = coupled_root(nested_coupled_roots(x, 3, 5, kEps), 5, kEps);
  const Tensor h = symmetric(last.z / last.alpha.sqrt()), h2 = at::matmul(h, h), h4 = at::matmul(h2, h2);
  const Tensor seventh = add_identity(at::matmul(at::matmul(h4, h2), h), kEps);
  return at::matmul(working(x), seventh).to(x.scalar_type());
}

Tensor streaming_basis(int64_t rows, int64_t cols, at::TensorOptions options) {
  return at::eye(cols, std::min(rows, cols), options);
}

StreamingPower streaming_power(const Tensor& x, const Tensor& basis, double power) {
  check_matrix(x);
  TORCH_CHECK(
      basis.dim() == x.dim() && basis.size(-2) == x.size(-1) && basis.size(-1) == std::min(x.size(-2), x.size(-1)),
      "[streaming_power] expects a basis [.., n, min(m, n)] for x ", x.sizes(), ", got ", basis.sizes(),
      ". Begin with streaming_basis.");
  const Tensor work = working(x), before = basis.to(work.scalar_type());
  const Tensor v = std::get<0>(at::linalg_qr(at::matmul(work.mT(), at::matmul(work, before))));
  const Tensor b = at::matmul(work, v), s = at::linalg_vector_norm(b, 2, at::IntArrayRef({-2}), true);  // [.., 1, k]
  // U diag(s^p) = B diag(s^(p-1)); what is no larger than eps stays out.
  const Tensor factor = at::where(s > kQrEps, s.clamp_min(kQrEps).pow(power - 1), at::zeros_like(s));
  return {at::matmul(b * factor, v.mT()).to(x.scalar_type()), v};
}

}  // namespace schatten
