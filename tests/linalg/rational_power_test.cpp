// The rational form by every instruction set, on degenerate matrices, and its deflation.
#include <gtest/gtest.h>
#include <schatten/core/fields.h>
#include <schatten/linalg/spectral_power.h>

#include <iostream>
#include <map>

#include "linalg/support.h"
#include "support/golden.h"

namespace schatten::testing {
namespace {

const RationalPower& fitted(double power) {
  static std::map<double, RationalPower> all;
  const auto at = all.find(power);
  return at != all.end() ? at->second : all.emplace(power, fit_rational_power(power)).first->second;
}

Tensor exact(const Known& matrix, double power) {
  return matrix.mapped([=](double s) { return std::pow(s, power); });
}
Tensor promised(const Known& matrix, const RationalPower& f) {
  const double top = matrix.sigma.front();
  return matrix.mapped([&](double s) { return std::pow(top, f.power) * f(s / top); });
}
bool finite(const Tensor& x) { return x.isfinite().all().item<bool>(); }

// --- every instruction set ---

TEST(RationalKernels, AgreeWithFloat64WhateverTheInstructions) {
  for (const Shape& shape : {Shape{"square", 96, 96}, {"wide", 70, 200}, {"tall", 133, 65}, {"row", 1, 9}})
    for (const auto& [name, spectrum] : {std::pair<const char*, Spectrum>{"graded", graded()},
                                         {"half rank", flat(0.5)},
                                         {"log-spaced to 1e-4", log_spaced(1e-4)}}) {
      const Known matrix = known(shape.rows, shape.cols, spectrum);
      for (const double power : {0.0, 0.125}) {
        const Tensor expected = spectral_power_rational(matrix.x(), fitted(power));
        for (const Isa isa : available_isas())
          for (const Products products : {Products::automatic, Products::float32}) {
            const Tensor out = spectral_power_rational(matrix.x().to(at::kFloat), fitted(power), nullptr,
                                                       {.products = products, .isa = isa});
            const bool halves = isa == Isa::amx_bf16 && products == Products::automatic;
            EXPECT_LT(relative_error(out, expected), halves ? 8e-3 : 4e-3)
                << enum_name(isa) << " " << enum_name(products) << " " << shape.name << " " << name << " " << power;
          }
      }
    }
}

TEST(RationalKernels, DegenerateMatricesNeedNoGuard) {
  for (const int64_t n : {64, 256, 1024}) {
    const Tensor u = orthonormal(n, n, 1), v = orthonormal(n, n, 2);
    for (const auto& [name, spectrum] : {std::pair<const char*, Spectrum>{"flat, rank n/8", flat(0.125)},
                                         {"flat, rank n/2", flat(0.5)},
                                         {"flat, rank .9n", flat(0.9)},
                                         {"rank one", rank_one()},
                                         {"graded", graded()}}) {
      Known matrix{u, v, {}};
      for (int64_t k = 0; k < n; ++k) matrix.sigma.push_back(spectrum(k, n));
      const Tensor x = matrix.x().to(at::kFloat), expected = promised(matrix, fitted(0));
      for (const Isa isa : available_isas()) {
        if (n == 1024 && isa != best_isa() && isa != Isa::avx2) continue;  // minutes, else
        RationalReport report;
        const Tensor out = spectral_power_rational(x, fitted(0), &report, {.isa = isa});
        EXPECT_LT(relative_error(out, expected), 6e-3) << enum_name(isa) << " " << name << " " << n;
        EXPECT_EQ(report.shift_raises + report.eigh_fallbacks, 0) << enum_name(isa) << " " << name << " " << n;
        if (n == 1024) continue;
        for (const double scale : {1e-30, 1e-36, 1e30}) {
          const Tensor scaled = (matrix.x() * scale).to(at::kFloat);
          EXPECT_LT(relative_error(spectral_power_rational(scaled, fitted(0), nullptr, {.isa = isa}), expected), 6e-3)
              << enum_name(isa) << " " << name << " " << n << " " << scale;
        }
      }
    }
  }
}

TEST(RationalKernels, FlatRankDeficientAtTwoThousand) {
  const int64_t n = 2048, rank = 1024;
  const Tensor u = std::get<0>(at::linalg_qr(gaussian({n, rank}, 1, at::kFloat)));
  const Tensor v = std::get<0>(at::linalg_qr(gaussian({n, rank}, 2, at::kFloat)));
  const Tensor x = at::mm(u, v.mT());
  RationalReport report;
  const Tensor out = spectral_power_rational(x, fitted(0), &report);
  EXPECT_LT(relative_error(out, x), 0.012);  // fit and power iteration together
  EXPECT_EQ(report.shift_raises + report.eigh_fallbacks, 0);
}

// --- deflation ---

/// Steep: eight directions far above a tail that would be cut.
Known steep(int64_t rows, int64_t cols, int64_t draw = 0) {
  return known(
      rows, cols,
      [](int64_t k, int64_t r) {
        return k < 8 ? std::pow(0.6, static_cast<double>(k))
                     : 0.002 * std::pow(0.1, static_cast<double>(k) / static_cast<double>(r));
      },
      draw);
}
constexpr int64_t kDeflate = 12;

Tensor basis_for(const Tensor& x) {
  const int64_t k = tracked_directions(kDeflate, x.size(-2), x.size(-1));
  return at::zeros({std::min(x.size(-2), x.size(-1)), k}, x.scalar_type());
}
Tensor deflated(const Tensor& x, double power, Tensor* basis = nullptr, Isa isa = this_isa()) {
  return spectral_power_rational(x, fitted(power), nullptr, {.deflate = kDeflate, .isa = isa}, basis);
}

TEST(Deflation, ResolvesWhatWouldBeCut) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{128, 200}, {200, 128}}) {
    const Known matrix = steep(rows, cols);
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble})
      for (const double power : {0.0, 0.125}) {
        const Tensor x = matrix.x().to(dtype);
        const double without = relative_error(spectral_power_rational(x, fitted(power)), exact(matrix, power));
        EXPECT_GT(without, 0.4);
        EXPECT_LT(relative_error(deflated(x, power), exact(matrix, power)), 0.03) << dtype << " " << power;
      }
  }
}

TEST(Deflation, WhereNothingIsCutItIsNotThere) {
  const Spectrum steep_and_level = [](int64_t k, int64_t) {
    return k < 12 ? std::pow(0.75, static_cast<double>(k)) : 0.03;
  };
  for (const Spectrum& spectrum : {log_spaced(1e-2), flat(1), steep_and_level}) {
    const Tensor x = known(128, 200, spectrum).x().to(at::kFloat);
    Tensor basis = basis_for(x);
    EXPECT_TRUE(at::equal(deflated(x, 0, &basis), spectral_power_rational(x, fitted(0))));
    EXPECT_FALSE(basis.any().item<bool>());
  }
}

TEST(Deflation, NoiseBelowTheRankIsNotRaised) {
  for (const double rank : {1.0, 5.0, 12.0, 40.0})
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble})
      for (const Spectrum& spectrum :
           {Spectrum([=](int64_t k, int64_t) { return static_cast<double>(k) < rank ? 1.0 : 0.0; }),
            Spectrum([=](int64_t k, int64_t) {
              return static_cast<double>(k) < rank ? std::pow(0.7, static_cast<double>(k)) : 0.0;
            })}) {
        const Known matrix = known(96, 128, spectrum);
        const Tensor out = deflated(matrix.x().to(dtype), 0);
        ASSERT_TRUE(finite(out));
        const double raised =
            at::mm(at::mm(matrix.u.narrow(1, 48, 48).mT(), out.to(at::kDouble)), matrix.v.narrow(1, 48, 48))
                .norm()
                .item<double>();
        EXPECT_LT(raised, 0.05) << rank << " " << dtype;
      }
}

/// What is taken out leaves enough of the spectrum that rounding noise stays far below l of what is left.
TEST(Deflation, StopsAboveTheRankFloor) {
  const Known matrix = known(96, 128, [](int64_t k, int64_t) {
    return k < 12 ? std::pow(10, -0.4 * static_cast<double>(k)) : k == 12 ? 3e-5 : 0.0;
  });
  const Tensor out = deflated(matrix.x().to(at::kFloat), 0).to(at::kDouble);
  const Tensor u = matrix.u.narrow(1, 48, 48), v = matrix.v.narrow(1, 48, 48);
  const double raised = at::mm(at::mm(u.mT(), out), v).norm().item<double>();
  std::cout << "    noise of 48 directions raised to " << raised << "\n";
  EXPECT_LT(raised, 0.1);
}

/// A momentum that moves by a fifth of its length a step, as recorded ones do.
TEST(Deflation, TheBasisFollowsAMovingMomentum) {
  const Known matrix = steep(128, 200);
  const Tensor still = matrix.x();
  Tensor basis = basis_for(still.to(at::kFloat));
  for (int64_t t = 0; t < 6; ++t) {
    const Tensor turn = orthonormal(128, 128, 50 + t),
                 noise = at::mm(at::linalg_matrix_exp((turn - turn.mT()) * 0.02), still);
    const Known now = decomposed(still + 0.2 * (noise - still));
    const Tensor x = at::mm(now.u * at::tensor(now.sigma, at::kDouble), now.v.mT()).to(at::kFloat);
    const double error = relative_error(deflated(x, 0, &basis), exact(now, 0));
    EXPECT_LT(error, 0.08) << t;
    EXPECT_TRUE(basis.any().item<bool>());
    EXPECT_LT((at::mm(basis.mT(), basis) - at::eye(basis.size(1))).abs().max().item<double>(), 1e-4);
  }
}

TEST(Deflation, AStaleBasisCostsIterationsAndNothingElse) {
  const Known matrix = steep(128, 200);
  const Tensor x = matrix.x().to(at::kFloat);
  Tensor stale = orthonormal(128, kDeflate + 4, 77).to(at::kFloat);
  EXPECT_LT(relative_error(deflated(x, 0, &stale), exact(matrix, 0)), 0.05);
}

TEST(Deflation, EndsWhereTheTailIsGone) {
  const Tensor before = steep(128, 200).x().to(at::kFloat);
  const Known after = known(128, 200, log_spaced(0.05));
  Tensor basis = basis_for(before);
  deflated(before, 0, &basis);
  EXPECT_TRUE(basis.any().item<bool>());
  const Tensor x = after.x().to(at::kFloat);
  deflated(x, 0, &basis);
  EXPECT_FALSE(basis.any().item<bool>());
  EXPECT_LT(relative_error(deflated(x, 0, &basis), exact(after, 0)), 0.01);
}

TEST(Deflation, NaNSurfacesAndLeavesTheBasisAlone) {
  const Tensor x = steep(128, 200).x().to(at::kFloat);
  Tensor basis = basis_for(x);
  deflated(x, 0, &basis);
  const Tensor before = basis.clone(), bad = x.clone();
  bad[3][4] = NAN;
  EXPECT_TRUE(all_nan(deflated(bad, 0, &basis)));
  bad[3][4] = INFINITY;
  EXPECT_TRUE(all_nan(deflated(bad, 0, &basis)));
  EXPECT_EQ(deflated(at::zeros_like(x), 0, &basis).abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(basis, before));
}

TEST(Deflation, EachMatrixHasItsOwnBasis) {
  const Tensor a = steep(64, 80).x().to(at::kFloat), b = steep(64, 80, 1).x().to(at::kFloat), both = at::stack({a, b});
  Tensor one = basis_for(a), two = basis_for(b), pair = at::stack({one, two});
  for (int t = 0; t < 2; ++t) {
    const Tensor out = deflated(both, 0, &pair);
    EXPECT_TRUE(at::equal(out[0], deflated(a, 0, &one)));
    EXPECT_TRUE(at::equal(out[1], deflated(b, 0, &two)));
    EXPECT_TRUE(at::equal(pair, at::stack({one, two})));
  }
}

TEST(Deflation, SmallMatricesHaveNone) {
  EXPECT_EQ(tracked_directions(12, 63, 500), 0);
  EXPECT_EQ(tracked_directions(12, 500, 64), 16);
  EXPECT_EQ(tracked_directions(0, 500, 500), 0);
}

/// Errors against the exact map, with a tenth to spare.
TEST(Deflation, CutsTheErrorOnRecordedMomentum) {
  struct Row {
    const char* name;
    double without, polar, eighth;
  };
  // Of the second one a twentieth is cut, and its twelfth value is half the first: it is left as it is.
  const std::vector<Row> rows = {{"wq", 0.52, 0.105, 0.053}, {"down_left", 0.11, 0.129, 0.067}};
  int seen = 0;
  for (const auto& file : golden_files("momentum"))
    for (const auto& [name, x] : load_safetensors(file).tensors)
      for (const Row& row : rows) {
        if (x.dim() != 2 || name != row.name) continue;
        if (file.stem() != (name == "wq" ? "step_020" : "step_290")) continue;
        ++seen;
        const Known matrix = decomposed(x);
        for (const Isa isa : available_isas()) {
          const double polar = relative_error(deflated(x, 0, nullptr, isa), exact(matrix, 0)),
                       eighth = relative_error(deflated(x, 0.125, nullptr, isa), exact(matrix, 0.125));
          std::cout << "    " << name << " " << enum_name(isa) << ": p = 0 " << polar << ", p = 1/8 " << eighth << "\n";
          EXPECT_LT(polar, row.polar) << name << " " << enum_name(isa);
          EXPECT_LT(eighth, row.eighth) << name << " " << enum_name(isa);
        }
        EXPECT_GT(relative_error(spectral_power_rational(x, fitted(0)), exact(matrix, 0)), row.without) << name;
      }
  EXPECT_EQ(seen, 2);
}

}  // namespace
}  // namespace schatten::testing
