// HTMuon's released maps against scalar oracles, and against what they claim to be.
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/linalg/released_power.h>
#include <schatten/linalg/spectral_power.h>

#include <iostream>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

using Values = std::vector<double>;

double norm(const Values& s) {
  double squares = 0;
  for (const double v : s) squares += v * v;
  return std::sqrt(squares);
}
Values each(Values s, const std::function<double(double)>& f) {
  for (double& v : s) v = f(v);
  return s;
}
Values times(Values a, const Values& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] *= b[i];
  return a;
}

// --- scalar oracles: what each map does to singular values ---

/// The eigenvalues of X^T X + eps I on all n columns.
Values eigenvalues(Values sigma, int64_t cols, double eps) {
  sigma.resize(static_cast<size_t>(cols), 0);
  return each(sigma, [=](double s) { return s * s + eps; });
}

struct Root {
  double alpha;
  Values y, z;
};
Root coupled(const Values& s, int steps, double eps) {
  const double alpha = std::max(norm(s), eps);
  Root r{alpha, each(s, [=](double v) { return v / alpha; }), Values(s.size(), 1)};
  for (int step = 0; step < steps; ++step)
    for (size_t i = 0; i < s.size(); ++i) {
      const double t = 3 - r.z[i] * r.y[i];
      r.y[i] *= t / 2;
      r.z[i] *= t / 2;
    }
  return r;
}
Values coupled_root(const Values& s, int steps, double eps) {
  const Root r = coupled(s, steps, eps);
  return each(r.y, [&](double y) { return std::sqrt(r.alpha) * y; });
}
Values taylor_root(const Values& s, double eps) {
  const double alpha = std::max(norm(s), eps);
  return each(s, [=](double v) {
    const double e = v / alpha - 1;
    return std::sqrt(alpha) * (1 + e / 2 - e * e / 8 + e * e * e / 16 - 5 * e * e * e * e / 128);
  });
}
Values nested(Values s, int times, double eps, const std::function<Values(const Values&)>& root) {
  for (int i = 0; i < times; ++i) s = each(root(s), [=](double v) { return v + eps; });
  return s;
}

Values quintic(const Values& sigma) {
  const double scale = norm(sigma) + 1e-7;
  return each(sigma, [=](double s) {
    s /= scale;
    for (int i = 0; i < 5; ++i) s *= 3.4445 + s * s * (-4.7750 + s * s * 2.0315);
    return s;
  });
}
Values cubic(const Values& sigma, int steps) {
  const double scale = norm(sigma) + 1e-6;
  return each(sigma, [=](double s) {
    s /= scale;
    for (int i = 0; i < steps; ++i) s *= (3 - s * s) / 2;
    return s;
  });
}

using Oracle = std::function<Values(const Values& sigma, int64_t cols)>;

Values oracle_ns(const Values& sigma, int64_t cols, int roots, double eps = 1e-6) {
  return times(quintic(sigma), nested(eigenvalues(sigma, cols, eps), roots, eps,
                                      [=](const Values& s) { return coupled_root(s, 5, eps); }));
}
Values oracle_accv2(const Values& sigma, int64_t cols) {
  return times(cubic(sigma, 10), nested(eigenvalues(sigma, cols, 1e-6), 4, 1e-6,
                                        [](const Values& s) { return coupled_root(s, 10, 1e-6); }));
}
Values oracle_accv3(const Values& sigma, int64_t cols) {
  return times(quintic(sigma),
               nested(eigenvalues(sigma, cols, 1e-6), 4, 1e-6, [](const Values& s) { return taylor_root(s, 1e-6); }));
}
Values oracle_accv4(const Values& sigma, int64_t cols) {
  const Root r =
      coupled(nested(eigenvalues(sigma, cols, 1e-6), 3, 1e-6, [](const Values& s) { return coupled_root(s, 5, 1e-6); }),
              5, 1e-6);
  return times(sigma, each(r.z, [&](double z) { return std::pow(z / std::sqrt(r.alpha), 7) + 1e-6; }));
}

struct Released {
  std::string name;
  std::function<Tensor(const Tensor&)> map;
  Oracle oracle;
  double allowed = 1e-12;
};
const std::vector<Released> kReleased = {
    {"ns, p = 1/8", [](const Tensor& x) { return released_power_ns(x); },
     [](const Values& s, int64_t n) { return oracle_ns(s, n, 4); }},
    {"ns, p = 1/2", [](const Tensor& x) { return released_power_ns(x, {.power = 0.5}); },
     [](const Values& s, int64_t n) { return oracle_ns(s, n, 2); }},
    {"ns, p = 1/32", [](const Tensor& x) { return released_power_ns(x, {.power = 1.0 / 32}); },
     [](const Values& s, int64_t n) { return oracle_ns(s, n, 6); }},
    {"ns, eps = 1e-3", [](const Tensor& x) { return released_power_ns(x, {.eps = 1e-3}); },
     [](const Values& s, int64_t n) { return oracle_ns(s, n, 4, 1e-3); }},
    {"accv2", [](const Tensor& x) { return released_power_accv2(x); }, oracle_accv2},
    {"accv3", [](const Tensor& x) { return released_power_accv3(x); }, oracle_accv3},
    // The seventh power of an inverse root of 1e-6 and less: rounding errors grow with it.
    {"accv4", [](const Tensor& x) { return released_power_accv4(x); }, oracle_accv4, 1e-8}};

Tensor with_values(const Known& matrix, const Values& values) {
  return at::mm(matrix.u * at::tensor(Values(values.begin(), values.begin() + matrix.u.size(1)), at::kDouble),
                matrix.v.mT());
}

std::vector<std::pair<std::string, Spectrum>> spectra() {
  const auto scaled = [](double by) { return [=](int64_t k, int64_t r) { return by * graded()(k, r); }; };
  return {{"0.01 / k", scaled(0.01)},
          {"1 / k", scaled(1)},
          {"10 / k", scaled(10)},
          {"log-spaced", log_spaced(1e-2)},
          {"rank one", rank_one()}};
}

TEST(ReleasedPower, IsItsScalarOracle) {
  for (const Released& r : kReleased)
    for (const Shape& shape : kShapes)
      for (const auto& [name, spectrum] : spectra()) {
        const Known matrix = known(shape.rows, shape.cols, spectrum);
        const Tensor expected = with_values(matrix, r.oracle(matrix.sigma, shape.cols));
        EXPECT_LT(relative_error(r.map(matrix.x()), expected), r.allowed)
            << r.name << ", " << shape.name << ", " << name;
      }
}

TEST(ReleasedPower, AWrongSideStepOrEpsMissesIt) {
  const Known matrix = known(24, 40, spectra()[0].second);
  const auto error = [&](const Tensor& out, const Values& values) {
    return relative_error(out, with_values(matrix, values));
  };
  const Tensor out = released_power_ns(matrix.x());
  EXPECT_GT(error(out, oracle_ns(matrix.sigma, 24, 4)), 1e-6) << "rows in place of columns";
  EXPECT_GT(error(out, oracle_ns(matrix.sigma, 40, 3)), 1e-2);
  EXPECT_GT(error(out, oracle_ns(matrix.sigma, 40, 4, 1.01e-6)), 1e-6);
  EXPECT_GT(error(released_power_ns(matrix.x(), {.root_steps = 6}), oracle_ns(matrix.sigma, 40, 4)), 1e-3);
  EXPECT_GT(error(released_power_ns(matrix.x(), {.ns_steps = 6}), oracle_ns(matrix.sigma, 40, 4)), 1e-3);
  EXPECT_GT(error(released_power_accv2(matrix.x(), 0.125, 9), oracle_accv2(matrix.sigma, 40)), 1e-3);
}

// --- what they are worth ---

struct Worth {
  double relative, norm_ratio;
};
Worth worth(const Oracle& oracle, double top) {
  Values sigma;
  for (int k = 1; k <= 512; ++k) sigma.push_back(top / k);
  const Values exact = each(sigma, [](double s) { return std::pow(s, 0.125); }), got = oracle(sigma, 512);
  Values difference = got;
  for (size_t i = 0; i < exact.size(); ++i) difference[i] -= exact[i];
  return {norm(difference) / norm(exact), norm(got) / norm(exact)};
}

TEST(ReleasedPower, ErrsAsItsDocumentationSays) {
  constexpr double kTops[] = {0.01, 0.1, 1, 10};
  const auto expect = [&](size_t released, std::array<double, 4> relative, std::array<double, 4> ratio) {
    for (size_t i = 0; i < 4; ++i) {
      const Worth w = worth(kReleased[released].oracle, kTops[i]);
      EXPECT_NEAR(w.relative / relative[i], 1, 0.02) << kReleased[released].name << " " << kTops[i];
      EXPECT_NEAR(w.norm_ratio / ratio[i], 1, 0.02) << kReleased[released].name << " " << kTops[i];
    }
  };
  expect(0, {.283, .692, .852, .855}, {1.18, .391, .323, .322});
  expect(4, {.630, .702, .736, .737}, {.555, .472, .457, .457});
  expect(5, {2.297, 2.275, 2.275, 2.275}, {3.26, 3.24, 3.24, 3.24});
  expect(6, {.827, 83.4, 233, 236}, {.303, 84.3, 234, 237});
}

TEST(ReleasedPower, RoundsItsPower) {
  EXPECT_EQ(released_exponent(0.125), 0.125);
  EXPECT_EQ(released_exponent(0.2), 0.25);
  EXPECT_EQ(released_exponent(0.15), 0.125);
  EXPECT_EQ(released_exponent(0.1), 0.125);
  EXPECT_EQ(released_exponent(0.75), 1);
  EXPECT_EQ(released_exponent(1.0 / 32), 1.0 / 32);
  const Tensor x = gaussian({6, 9}, 31);
  EXPECT_TRUE(at::equal(released_power_ns(x, {.power = 0.2}), released_power_ns(x, {.power = 0.25})));
}

TEST(ReleasedPower, RefusesPowersThatHaveNoRoots) {
  const Tensor x = gaussian({6, 9}, 32);
  for (const double power : {0.0, -0.5, 1.5, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    EXPECT_THROW(released_exponent(power), UsageError) << power;
    EXPECT_THROW(released_power_ns(x, {.power = power}), UsageError) << power;
    EXPECT_THROW(released_power_accv2(x, power), UsageError) << power;
    EXPECT_THROW(released_power_accv3(x, power), UsageError) << power;
  }
  for (const Released& r : kReleased) EXPECT_THROW(r.map(at::ones({5})), c10::Error) << r.name;
}

TEST(ReleasedPower, KeepsDtypeInputAndBatch) {
  for (const Released& r : kReleased)
    for (const auto& shape : std::vector<std::vector<int64_t>>{{2, 3, 8, 12}, {2, 3, 12, 8}}) {
      const Tensor x = gaussian(shape, 33), before = x.clone(), out = r.map(x);
      EXPECT_TRUE(at::equal(x, before)) << r.name;
      EXPECT_FALSE(out.is_alias_of(x)) << r.name;
      for (int64_t i = 0; i < 2; ++i)
        for (int64_t j = 0; j < 3; ++j) EXPECT_LT(relative_error(out[i][j], r.map(x[i][j])), 1e-12) << r.name;
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const Tensor small = r.map(x.to(dtype));
        EXPECT_EQ(small.scalar_type(), dtype) << r.name;
        EXPECT_LT(relative_error(small, out), dtype == at::kFloat ? 1e-2 : 0.6) << r.name;
      }
    }
  for (const Released& r : kReleased) {
    EXPECT_TRUE(at::equal(r.map(at::zeros({4, 6})), at::zeros({4, 6}))) << r.name;
    EXPECT_EQ(r.map(at::zeros({0, 5})).sizes(), at::IntArrayRef({0, 5})) << r.name;
    Tensor x = gaussian({2, 5, 7}, 34);
    x[1][0][0] = NAN;
    const Tensor out = r.map(x);
    EXPECT_TRUE(out[0].isfinite().all().item<bool>()) << r.name;
    EXPECT_TRUE(all_nan(out[1])) << r.name;
  }
}

// --- by rank ---

TEST(RankPower, SeesTheOrderAndNotTheValues) {
  for (const Shape& shape : kShapes)
    for (const double power : {0.0, 0.125, 1.0}) {
      Known matrix = known(shape.rows, shape.cols, log_spaced(1e-2));
      const Tensor out = rank_power(matrix.x(), power), scaled = rank_power(matrix.x() * 1e-6, power);
      Values ranks;
      for (size_t k = 1; k <= matrix.sigma.size(); ++k) ranks.push_back(std::pow(static_cast<double>(k), -power));
      EXPECT_LT(relative_error(out, with_values(matrix, ranks)), 1e-11) << shape.name << " " << power;
      EXPECT_LT(relative_error(scaled, out), 1e-11) << shape.name << " " << power;
    }
  const Known graded_matrix = known(24, 40, graded());
  EXPECT_LT(relative_error(rank_power(graded_matrix.x(), 0.125), spectral_power_svd(graded_matrix.x(), 0.125)), 1e-11);
  EXPECT_GT(rank_power(at::zeros({4, 6}), 0.5).norm().item<double>(), 1) << "zero maps to no zero, as released";
}

// --- streaming ---

Tensor start(const Tensor& x) { return streaming_basis(x.size(-2), x.size(-1), x.options()); }

TEST(StreamingPower, IsExactOnTheTrueBasis) {
  for (const Shape& shape : kShapes)
    for (const double power : {0.0, 0.125, 1.0}) {
      const Known matrix = known(shape.rows, shape.cols, log_spaced(1e-2));
      const StreamingPower out = streaming_power(matrix.x(), matrix.v, power);
      EXPECT_LT(relative_error(out.result, matrix.mapped([=](double s) { return std::pow(s, power); })), 1e-11)
          << shape.name << " " << power;
    }
}

TEST(StreamingPower, ConvergesOnAFixedMatrix) {
  const Known matrix = known(64, 96, graded());
  const Tensor exact = matrix.mapped([](double s) { return std::pow(s, 0.125); });
  Tensor basis = start(matrix.x());
  std::vector<double> errors;
  for (int step = 1; step <= 200; ++step) {
    const StreamingPower out = streaming_power(matrix.x(), basis, 0.125);
    basis = out.basis;
    const Tensor gram = at::mm(basis.mT(), basis);
    ASSERT_LT((gram - at::eye(64, at::kDouble)).abs().max().item<double>(), 1e-12) << step;
    if (step == 1 || step == 2 || step == 10 || step == 50 || step == 200)
      errors.push_back(relative_error(out.result, exact));
  }
  std::cout << "    error after 1, 2, 10, 50, 200 steps:";
  for (const double e : errors) std::cout << " " << e;
  std::cout << "\n";
  const double documented[] = {0.33, 0.17, 0.032, 0.006};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(errors[i] / documented[i], 1, 0.06) << i;
  EXPECT_LT(errors.back(), 1e-3);
}

TEST(StreamingPower, BeginsWithTheIdentityAndDoesNotSeeSigns) {
  for (const Shape& shape : kShapes) {
    const Tensor x = gaussian({shape.rows, shape.cols}, 35), v = start(x);
    const int64_t k = std::min(shape.rows, shape.cols);
    ASSERT_EQ(v.sizes(), at::IntArrayRef({shape.cols, k}));
    EXPECT_TRUE(at::equal(at::mm(v.mT(), v), at::eye(k, at::kDouble))) << shape.name;
    const Tensor signs = at::ones({k}, at::kDouble);
    signs[0] = -1;
    EXPECT_LT(relative_error(streaming_power(x, v * signs, 0.25).result, streaming_power(x, v, 0.25).result), 1e-12)
        << shape.name;
    const Tensor gram = at::mm(x.mT(), x.mm(v));  // the new basis spans X^T X V
    const Tensor next = streaming_power(x, v, 0.25).basis;
    EXPECT_LT(relative_error(next.mm(next.mT().mm(gram)), gram), 1e-12) << shape.name;
  }
}

TEST(StreamingPower, ZeroDtypesBatchesAndWrongBases) {
  const Tensor zero = at::zeros({6, 9});
  EXPECT_TRUE(at::equal(streaming_power(zero, start(zero), 0.0).result, zero));
  const Tensor tiny = at::full({6, 9}, 1e-10, at::kDouble);  // below the absolute 1e-8
  EXPECT_EQ(streaming_power(tiny, start(tiny), 0.125).result.norm().item<double>(), 0);
  const Tensor x = gaussian({2, 6, 9}, 36), basis = start(x).expand({2, 9, 6}), before = x.clone();
  const StreamingPower out = streaming_power(x, basis, 0.5);
  EXPECT_TRUE(at::equal(x, before));
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_LT(relative_error(out.result[i], streaming_power(x[i], basis[i], 0.5).result), 1e-12);
  const StreamingPower half = streaming_power(x.to(at::kBFloat16), basis.to(at::kFloat), 0.5);
  EXPECT_EQ(half.result.scalar_type(), at::kBFloat16);
  EXPECT_EQ(half.basis.scalar_type(), at::kFloat);
  EXPECT_LT(relative_error(half.result, out.result), 0.05);
  EXPECT_THROW(streaming_power(x, basis.slice(2, 0, 5), 0.5), c10::Error);
  EXPECT_THROW(streaming_power(x, start(x), 0.5), c10::Error);
  Tensor bad = x.clone();
  bad[1][0][0] = NAN;
  EXPECT_TRUE(all_nan(streaming_power(bad, basis, 0.5).result[1]));
}

}  // namespace
}  // namespace schatten::testing
