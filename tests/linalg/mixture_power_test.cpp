// The mixture of iterates: its tables, and its matrix form against its scalar function.
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/linalg/mixture_power.h>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

TEST(MixturePower, TablesKeepTheirPromise) {
  struct Row {
    double power, asked, interval, error;
  };
  for (const Row& row :
       {Row{.125, 5e-3, 1e-3, .030}, {.125, 1e-2, 1e-2, .0011}, {.25, 5e-3, 1e-2, .0030}, {.5, 5e-3, 1e-2, .0032}}) {
    const MixturePower f = mixture_power(row.power, row.asked);
    EXPECT_EQ(f.interval, row.interval);
    EXPECT_NEAR(f.error, row.error, 0.05 * row.error) << row.power;
    EXPECT_EQ(f.weights.size(), f.steps.size() + 1);
    EXPECT_NEAR(f(1e-6) / f(1e-7), 10, 1e-3);
  }
}

TEST(MixturePower, OtherPowersAreRefusedWithTheWayOut) {
  for (const double power : {0.0, 0.3, 1.0}) {
    EXPECT_FALSE(has_mixture(power));
    try {
      mixture_power(power);
      FAIL() << power;
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find("1/8, 1/4 or 1/2"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("rational"), std::string::npos) << e.what();
    }
  }
}

/// What it promises: f of sigma over the bound (sum sigma^8)^(1/8).
Tensor promised(const Known& matrix, const MixturePower& f) {
  double eighth = 0;
  for (const double s : matrix.sigma) eighth += std::pow(s / matrix.sigma.front(), 8);
  const double bound = matrix.sigma.front() * std::pow(eighth, 0.125);
  return matrix.mapped([&](double s) { return std::pow(bound, f.power) * f(s / bound); });
}

TEST(MixturePower, IsItsScalarFunctionOnSingularValues) {
  for (const double power : {0.125, 0.25, 0.5})
    for (const Shape& shape : kShapes)
      for (const Spectrum& spectrum : {log_spaced(1e-2), log_spaced(1e-5), graded(), flat(0.5), rank_one()}) {
        const Known matrix = known(shape.rows, shape.cols, spectrum);
        const MixturePower f = mixture_power(power);
        const Tensor expected = promised(matrix, f), x = matrix.x();
        EXPECT_LT(relative_error(spectral_power_mixture(x, f), expected), 1e-10) << shape.name << " " << power;
        EXPECT_LT(relative_error(spectral_power_mixture(x.to(at::kFloat), f), expected), 2e-3) << shape.name;
        for (const double scale : {1e-30, 1e30})
          EXPECT_LT(relative_error(spectral_power_mixture((x * scale).to(at::kFloat), f).to(at::kDouble),
                                   expected * std::pow(scale, power)),
                    2e-3)
              << shape.name << " " << scale;
      }
}

TEST(MixturePower, IsThePowerWithinItsError) {
  const MixturePower f = mixture_power(0.125, 1e-2);
  const Known matrix = known(96, 160, log_spaced(0.05));
  const Tensor exact = matrix.mapped([](double s) { return std::pow(s, 0.125); });
  EXPECT_LT(relative_error(spectral_power_mixture(matrix.x(), f), exact), f.error);
}

TEST(MixturePower, LeadingDimensionsAreIndependentMatrices) {
  const MixturePower f = mixture_power(0.25);
  for (const auto& shape : std::vector<std::vector<int64_t>>{{3, 12, 20}, {2, 3, 20, 12}}) {
    Tensor x = gaussian(shape, 4);
    x.view({-1, shape[shape.size() - 2], shape.back()})[1].zero_();
    const Tensor out = spectral_power_mixture(x, f);
    ASSERT_EQ(out.sizes(), x.sizes());
    const Tensor singles = x.view({-1, shape[shape.size() - 2], shape.back()}), outs = out.view(singles.sizes());
    for (int64_t i = 0; i < singles.size(0); ++i)
      EXPECT_LT(relative_error(outs[i], spectral_power_mixture(singles[i], f)), 1e-13) << i;
    EXPECT_EQ(outs[1].abs().max().item<double>(), 0);
  }
  EXPECT_EQ(spectral_power_mixture(at::zeros({0, 4, 5}), f).sizes(), at::IntArrayRef({0, 4, 5}));
  EXPECT_THROW(spectral_power_mixture(at::ones({5}), f), c10::Error);
}

TEST(MixturePower, NaNAndInfinityFillTheirMatrixAndNoOther) {
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    const Tensor x = gaussian({2, 6, 9}, 3, at::kFloat);
    x[1][5][0] = bad;
    const Tensor out = spectral_power_mixture(x, mixture_power(0.125));
    EXPECT_TRUE(all_nan(out[1])) << bad;
    EXPECT_TRUE(out[0].isfinite().all().item<bool>()) << bad;
  }
}

}  // namespace
}  // namespace schatten::testing
