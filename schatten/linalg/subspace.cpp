#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <schatten/core/error.h>
#include <schatten/linalg/subspace.h>

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
  if (!w.isfinite().all().item<bool>()) return at::full({rows, cols}, NAN, x.options());
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

at::Generator generator(int64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed)); }

}  // namespace

Tensor top_left(const Tensor& x, int64_t rank) {
  const int64_t r = checked_rank("top_left", x, rank);
  return decompose(x, x.size(0), r,
                   [r](const Tensor& w) { return std::get<0>(at::linalg_svd(w, false)).narrow(1, 0, r); });
}

Tensor top_right(const Tensor& x, int64_t rank) {
  const int64_t r = checked_rank("top_right", x, rank);
  return decompose(x, x.size(1), r,
                   [r](const Tensor& w) { return std::get<2>(at::linalg_svd(w, false)).narrow(0, 0, r).mT(); });
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
  return at::randn({rows, cols}, generator(seed), at::TensorOptions(at::kFloat)).div(scale).to(dtype);
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
