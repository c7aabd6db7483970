#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <schatten/core/error.h>
#include <schatten/linalg/multiply.h>
#include <schatten/linalg/subspace.h>
#include <schatten/linalg/svd_impl.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace schatten {

namespace {

Tensor working(const Tensor& x) { return x.detach().to(at_least_float32(x.scalar_type())); }

/// f(x) in the working dtype; LAPACK throws on NaN, so a bad input gives NaN of the shape [rows, cols] instead.
Tensor decompose(const Tensor& x, int64_t rows, int64_t cols, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor w = working(x);
  if (!std::isfinite(largest_entry(w))) return at::full({rows, cols}, NAN, x.options());
  return f(w).to(x.scalar_type()).contiguous();
}

void check_matrix(const char* who, const Tensor& x) {
  if (x.dim() != 2)
    fail_usage({who, "one matrix [m, n]", c10::str(x.sizes()), "Split batches and flatten convolutions."});
}

void check_symmetric(const char* who, const Tensor& a) {
  check_matrix(who, a);
  if (a.size(0) != a.size(1)) fail_usage({who, "a symmetric matrix [n, n]", c10::str(a.sizes()), ""});
}

int64_t checked_rank(const char* who, const Tensor& x, int64_t rank) {
  check_matrix(who, x);
  if (rank <= 0) fail_usage({who, "rank > 0", std::to_string(rank), ""});
  return std::min({rank, x.size(0), x.size(1)});
}

/// X R^-1 with R^T R = X^T X + shift.
Tensor whitened(const Tensor& x, Tensor gram, const Tensor& shift) {
  gram.diagonal().add_(shift);
  const Tensor r = std::get<0>(at::linalg_cholesky_ex(gram, /*upper=*/true));
  return at::linalg_solve_triangular(r, x, /*upper=*/true, /*left=*/false);
}

/// Orthonormal columns of the span. Where they are nearly so already, one Cholesky factor is as good as reflections.
Tensor orthonormal(const Tensor& x) {
  constexpr double kNear = 0.1;
  const Tensor unit = x.div(at::linalg_vector_norm(x, 2, 0, true).clamp_min(1e-30)), gram = at::mm(unit.mT(), unit);
  const bool near =
      largest_entry(gram - at::eye(gram.size(0), gram.options())) < kNear / static_cast<double>(gram.size(0));
  return near ? whitened(unit, gram, at::zeros({}, gram.options())) : std::get<0>(at::linalg_qr(x));
}

/// Squares of entries are formed: tiny or huge ones would leave the range of float32.
Tensor in_range(const Tensor& w) {
  constexpr double kLargest = 1e6;
  const double largest = largest_entry(w);
  return largest == 0 || (largest > 1 / kLargest && largest < kLargest) ? w : w.div(largest);
}

/// Eigenvectors of the r largest eigenvalues of a symmetric matrix, largest first.
Tensor largest_eigenvectors(const Tensor& a, int64_t r) {
  return std::get<1>(at::linalg_eigh(a)).narrow(1, a.size(0) - r, r).flip(1);
}

/// Columns of the same span that are told from each other: C Y would soon be a multiple of the first eigenvector.
Tensor apart(const Tensor& y) {
  constexpr double kShift = 1e-5;  // of the trace: above what rounding makes of the smallest eigenvalues
  const Tensor gram = at::mm(y.mT(), y);
  return whitened(y, gram, gram.trace() * kShift + 1e-30);
}

/// The same from the left singular vectors of C^powers Omega.
Tensor sketched_eigenvectors(const Tensor& c, int64_t r, const Rng& draws, Isa isa) {
  constexpr int64_t kMore = 8;
  constexpr int kPowers = 3;
  const auto seed = static_cast<int64_t>(draws.key() >> 1);
  Tensor y = gaussian_projection(seed, c.size(0), std::min(r + kMore, c.size(0)), c.scalar_type());
  for (int i = 0; i < kPowers; ++i)  // the first ones only have to find the way
    y = multiply(c, i == 0 ? y : apart(y), i + 1 < kPowers ? Products::bfloat16 : Products::automatic, isa);
  return orthonormal(at::mm(y, largest_eigenvectors(at::mm(y.mT(), y), r)));
}

/// V_r [n, r] of X [m, n] by the smaller of its Gram matrices.
Tensor leading(const Tensor& x, int64_t r, Leading how, const Rng& draws, Isa isa) {
  const bool own = x.size(1) <= x.size(0);
  const bool sketch = how == Leading::randomized;
  const Tensor c = gram_of_rows(own ? x.mT() : x, sketch ? Products::automatic : Products::float32, isa);
  const Tensor e = sketch ? sketched_eigenvectors(c, r, draws, isa) : largest_eigenvectors(c, r);
  return own ? e : orthonormal(at::mm(x.mT(), e));
}

at::Generator generator(int64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed)); }

}  // namespace

Tensor top_left(const Tensor& x, int64_t rank, Leading how, const Rng& draws, Isa isa) {
  const int64_t r = checked_rank("top_left", x, rank);
  return decompose(x, x.size(0), r, [&](const Tensor& w) {
    if (how == Leading::svd) return std::get<0>(at::linalg_svd(w, false)).narrow(1, 0, r);
    return leading(in_range(w).mT(), r, how, draws, isa);
  });
}

Tensor top_right(const Tensor& x, int64_t rank, Leading how, const Rng& draws, Isa isa) {
  const int64_t r = checked_rank("top_right", x, rank);
  return decompose(x, x.size(1), r, [&](const Tensor& w) {
    if (how == Leading::svd) return std::get<2>(at::linalg_svd(w, false)).narrow(0, 0, r).mT();
    return leading(in_range(w), r, how, draws, isa);
  });
}

Tensor align_columns(const Tensor& fresh, const Tensor& reference) {
  check_matrix("align_columns", fresh);
  if (reference.defined() && reference.sizes() != fresh.sizes())
    fail_usage({"align_columns", c10::str("a reference of shape ", fresh.sizes()), c10::str(reference.sizes()),
                "No reference (an undefined tensor) also gives definite signs."});
  const Tensor w = working(fresh);
  const Tensor peak = w.gather(0, w.abs().argmax(0, true)).squeeze(0);
  const Tensor dot = reference.defined() ? w.mul(working(reference)).sum(0) : at::zeros_like(peak);
  const Tensor flip = at::where(dot.eq(0), peak, dot).lt(0);
  return at::where(flip, fresh.detach().neg(), fresh.detach());
}

Tensor gaussian_projection(int64_t seed, int64_t rows, int64_t cols, at::ScalarType dtype) {
  if (rows <= 0 || cols <= 0) fail_usage({"gaussian_projection", "rows and cols > 0", c10::str(rows, " x ", cols), ""});
  const double scale = std::sqrt(static_cast<double>(std::min(rows, cols)));
  return at::randn({rows, cols}, generator(seed), at::TensorOptions(at::kFloat)).div_(scale).to(dtype);
}

int64_t next_seed(int64_t seed) {
  constexpr int64_t kDraws = 15;
  const Tensor draws =
      at::randint(std::numeric_limits<int64_t>::max(), {kDraws}, generator(seed), at::TensorOptions(at::kLong));
  return draws[kDraws - 1].item<int64_t>();
}

Tensor qr_q(const Tensor& x) {
  check_matrix("qr_q", x);
  return decompose(x, x.size(0), std::min(x.size(0), x.size(1)),
                   [](const Tensor& w) { return std::get<0>(at::linalg_qr(w)); });
}

Tensor symmetric_root(const Tensor& a, double exponent, double eps) {
  check_symmetric("symmetric_root", a);
  if (!(eps >= 0)) fail_usage({"symmetric_root", "eps >= 0", std::to_string(eps), ""});
  return decompose(a, a.size(0), a.size(1), [&](const Tensor& w) {
    const auto [values, vectors] = at::linalg_eigh(w);
    return at::mm(vectors * values.clamp_min(eps).pow(exponent), vectors.mT());
  });
}

Tensor eigenbasis_descending(const Tensor& a) {
  check_symmetric("eigenbasis_descending", a);
  return decompose(a, a.size(0), a.size(1), [](const Tensor& w) {
    Tensor shifted = w.clone();
    shifted.diagonal().add_(1e-30);
    return std::get<1>(at::linalg_eigh(shifted)).flip(1);
  });
}

}  // namespace schatten
