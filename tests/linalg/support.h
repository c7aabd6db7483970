// Matrices whose singular values are known because they were built from them.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <schatten/core/rng.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace schatten::testing {

/// On a busy machine two threads on one small matrix wait for each other far longer than they work.
struct OneThread : ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
inline ::testing::Environment* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

struct Shape {
  const char* name;
  int64_t rows, cols;
};
inline constexpr Shape kShapes[] = {{"wide", 24, 40},  {"tall", 40, 24}, {"square", 32, 32},
                                    {"prime", 29, 37}, {"row", 1, 9},    {"column", 9, 1}};

inline Tensor gaussian(std::vector<int64_t> shape, int64_t draw, at::ScalarType dtype = at::kDouble) {
  return Rng(17).of("linalg").at(draw).normal(shape, dtype);
}
inline Tensor orthonormal(int64_t rows, int64_t cols, int64_t draw) {
  return std::get<0>(at::linalg_qr(gaussian({rows, cols}, draw)));
}

/// X = U diag(sigma) V^T in float64. A value that is exactly 0 maps to 0, whatever f says.
struct Known {
  Tensor u, v;
  std::vector<double> sigma;

  Tensor mapped(const std::function<double(double)>& f) const {
    std::vector<double> values = sigma;
    for (double& s : values) s = s > 0 ? f(s) : 0;
    return at::mm(u * at::tensor(values, at::kDouble), v.mT());
  }
  Tensor x() const {
    return mapped([](double s) { return s; });
  }
};

using Spectrum = std::function<double(int64_t k, int64_t r)>;  // sigma_k, k from 0 to r - 1

inline Known known(int64_t rows, int64_t cols, const Spectrum& spectrum, int64_t draw = 0) {
  const int64_t r = std::min(rows, cols);
  Known out{orthonormal(rows, r, 2 * draw + 100), orthonormal(cols, r, 2 * draw + 101), {}};
  for (int64_t k = 0; k < r; ++k) out.sigma.push_back(spectrum(k, r));
  return out;
}

/// The same for a matrix that was not built: float64 SVD.
inline Known decomposed(const Tensor& x) {
  const auto [u, s, vh] = at::linalg_svd(x.to(at::kDouble), false);
  const Tensor values = s.contiguous();
  return {u, vh.mT(), {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()}};
}

/// From 1 down to `least`, evenly on a log scale.
inline Spectrum log_spaced(double least) {
  return [=](int64_t k, int64_t r) {
    return std::pow(least, r > 1 ? static_cast<double>(k) / static_cast<double>(r - 1) : 0.0);
  };
}
inline Spectrum flat(double share_of_rank) {
  return
      [=](int64_t k, int64_t r) { return static_cast<double>(k) < share_of_rank * static_cast<double>(r) ? 1.0 : 0.0; };
}
inline Spectrum graded() {
  return [](int64_t k, int64_t) { return 1 / static_cast<double>(k + 1); };
}
inline Spectrum rank_one() {
  return [](int64_t k, int64_t) { return k == 0 ? 1.0 : 0.0; };
}

/// |a - b|_F / |b|_F in float64; where b is 0, |a|_F.
inline double relative_error(const Tensor& a, const Tensor& b) {
  const double scale = b.to(at::kDouble).norm().item<double>();
  const double error = (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
  return scale > 0 ? error / scale : error;
}

inline bool all_nan(const Tensor& x) { return x.isnan().all().item<bool>(); }

}  // namespace schatten::testing
