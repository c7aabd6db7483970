// Newton-Schulz acts on singular values: its oracle is its scalar polynomial on a float64 spectrum.
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/linalg/polar.h>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

constexpr QuinticRounding kRoundings[] = {QuinticRounding::scaled_before, QuinticRounding::scaled_after,
                                          QuinticRounding::fused};

struct Input {
  std::string name;
  Known matrix;
};

std::vector<Input> inputs(const Shape& s) {
  return {{"gaussian", decomposed(gaussian({s.rows, s.cols}, 1))},
          {"log-spaced", known(s.rows, s.cols, log_spaced(1e-4))},
          {"rank-deficient", known(s.rows, s.cols, flat(0.5))},
          {"rank one", known(s.rows, s.cols, rank_one())}};
}

/// The scalar schedule on the singular values, after the division that the options ask for.
Tensor oracle(const Known& matrix, const NewtonSchulzOptions& o) {
  double squares = 0;
  for (const double s : matrix.sigma) squares += s * s;
  const double norm = std::sqrt(squares) * o.schedule.norm_margin;
  const double divisor = o.eps_mode == EpsMode::add ? norm + o.eps : std::max(norm, o.eps);
  return matrix.mapped([&](double s) { return o.schedule(s / divisor); });
}

TEST(NewtonSchulz, IsItsScalarScheduleOnSingularValues) {
  for (const std::string& name : polynomial_schedule_names())
    for (const QuinticRounding rounding : kRoundings)
      for (const Shape& shape : kShapes)
        for (const Input& input : inputs(shape)) {
          const NewtonSchulzOptions o{.schedule = polynomial_schedule(name), .rounding = rounding};
          const Tensor x = input.matrix.x(), expected = oracle(input.matrix, o);
          SCOPED_TRACE(name + ", " + shape.name + ", " + input.name);
          EXPECT_LT(relative_error(newton_schulz(x, o), expected), 1e-12);
          EXPECT_LT(relative_error(newton_schulz(x.to(at::kFloat), o), expected),
                    2e-4);  // eps times a slope of 485
        }
}

TEST(NewtonSchulz, MarginAndBothFormsOfEpsEnterTheDivision) {
  const Known matrix = decomposed(gaussian({24, 40}, 2));
  for (const EpsMode mode : {EpsMode::add, EpsMode::clamp})
    for (const double eps : {1e-7, 10.0, 100.0}) {  // |X|_F is about 31
      NewtonSchulzOptions o{.schedule = polynomial_schedule("cubic", 3), .eps = eps, .eps_mode = mode};
      o.schedule.norm_margin = 1.3;
      EXPECT_LT(relative_error(newton_schulz(matrix.x(), o), oracle(matrix, o)), 1e-12) << eps;
    }
}

TEST(NewtonSchulz, LeadingDimensionsAreIndependentMatrices) {
  const NewtonSchulzOptions o{.schedule = polynomial_schedule("quintic")};
  for (const QuinticRounding rounding : kRoundings)
    for (const auto& shape :
         std::vector<std::vector<int64_t>>{{3, 12, 20}, {3, 20, 12}, {2, 3, 12, 20}, {2, 3, 20, 12}}) {
      NewtonSchulzOptions with = o;
      with.rounding = rounding;
      const Tensor x = gaussian(shape, 3), out = newton_schulz(x, with);
      ASSERT_EQ(out.sizes(), x.sizes());
      const Tensor singles = x.reshape({-1, shape[shape.size() - 2], shape.back()}),
                   outs = out.reshape(singles.sizes());
      for (int64_t i = 0; i < singles.size(0); ++i)
        EXPECT_LT(relative_error(outs[i], newton_schulz(singles[i], with)), 1e-13) << x.sizes() << " " << i;
    }
}

TEST(NewtonSchulz, LayoutInMemoryDoesNotMatter) {
  const NewtonSchulzOptions o{.schedule = polynomial_schedule("quintic")};
  const Tensor x = gaussian({4, 20, 12}, 4), view = x.mT(), sliced = at::cat({x, x}, 2).slice(2, 0, 12);
  EXPECT_LT(relative_error(newton_schulz(view, o), newton_schulz(view.contiguous(), o)), 1e-13);
  EXPECT_LT(relative_error(newton_schulz(sliced, o), newton_schulz(x, o)), 1e-13);
}

TEST(NewtonSchulz, ThreeRoundingsDifferInBfloat16AndNowhereElse) {
  const Known matrix = decomposed(gaussian({32, 48}, 5));
  const auto run = [&](QuinticRounding rounding, at::ScalarType dtype) {
    return newton_schulz(matrix.x().to(dtype), {.schedule = polynomial_schedule("quintic"), .rounding = rounding});
  };
  const Tensor exact = oracle(matrix, {.schedule = polynomial_schedule("quintic")});
  for (const QuinticRounding a : kRoundings) {
    EXPECT_LT(relative_error(run(a, at::kBFloat16), exact), 0.05);
    EXPECT_EQ(run(a, at::kBFloat16).scalar_type(), at::kBFloat16);
    for (const QuinticRounding b : kRoundings) {
      EXPECT_LT(relative_error(run(a, at::kDouble), run(b, at::kDouble)), 1e-13);
      if (a == b) continue;
      EXPECT_GT(relative_error(run(a, at::kBFloat16), run(b, at::kBFloat16)), 1e-3);
    }
  }
}

TEST(NewtonSchulz, ZeroStaysZero) {
  for (const std::string& name : polynomial_schedule_names())
    for (const EpsMode mode : {EpsMode::add, EpsMode::clamp})
      for (const double eps : {1e-7, 0.0})
        for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
          const Tensor x = at::cat({at::zeros({1, 4, 6}), at::ones({1, 4, 6})}).to(dtype);
          const Tensor out = newton_schulz(x, {.schedule = polynomial_schedule(name), .eps = eps, .eps_mode = mode});
          EXPECT_TRUE(at::equal(out[0], x[0])) << name << " " << eps << " " << dtype;
          EXPECT_GT(out[1].abs().min().item<double>(), 0.01) << "the neighbour in the batch is no zero";
        }
  EXPECT_EQ(newton_schulz(at::zeros({0, 5}), {.schedule = polynomial_schedule("quintic")}).sizes(),
            at::IntArrayRef({0, 5}));
}

TEST(NewtonSchulz, NeitherChangesNorAliasesItsInput) {
  for (const QuinticRounding rounding : kRoundings)
    for (const auto& shape :
         std::vector<std::vector<int64_t>>{{12, 20}, {20, 12}, {1, 9}, {2, 12, 20}, {2, 2, 20, 12}, {0, 3}}) {
      const Tensor x = gaussian(shape, 6), before = x.clone();
      const Tensor out = newton_schulz(x, {.schedule = polynomial_schedule("quintic"), .rounding = rounding});
      EXPECT_FALSE(out.is_alias_of(x)) << x.sizes();
      EXPECT_TRUE(at::equal(x, before)) << x.sizes();
    }
}

TEST(NewtonSchulz, NaNSurfaces) {
  Tensor x = gaussian({2, 6, 9}, 7);
  x[1][2][3] = NAN;
  const Tensor out = newton_schulz(x, {.schedule = polynomial_schedule("quintic")});
  EXPECT_TRUE(out[0].isfinite().all().item<bool>());
  EXPECT_TRUE(all_nan(out[1]));
}

TEST(NewtonSchulz, CubicConvergesToThePolarFactor) {
  const Known matrix = decomposed(gaussian({24, 40}, 8));
  const Tensor polar = matrix.mapped([](double) { return 1.0; });
  EXPECT_LT(relative_error(newton_schulz(matrix.x(), {.schedule = polynomial_schedule("cubic", 30)}), polar), 1e-12);
  EXPECT_GT(relative_error(newton_schulz(matrix.x(), {.schedule = polynomial_schedule("cubic", 3)}), polar), 0.1);
}

TEST(NewtonSchulz, RefusesVectors) {
  EXPECT_THROW(newton_schulz(at::ones({5}), {.schedule = polynomial_schedule("quintic")}), c10::Error);
}

TEST(PolynomialSchedule, KeepsThePublishedStepsAndItsBand) {
  // The oracle above reads the same table: these are the papers' own numbers.
  EXPECT_EQ(polynomial_schedule("quintic").coefficients[0], (std::array<double, 3>{3.4445, -4.7750, 2.0315}));
  EXPECT_EQ(polynomial_schedule("cubic").coefficients[0], (std::array<double, 3>{1.5, -0.5, 0}));
  EXPECT_EQ(polynomial_schedule("quintic").coefficients.size(), 5u);
  EXPECT_EQ(polynomial_schedule("quintic", 7).coefficients.size(), 7u);
  for (const std::string& name : polynomial_schedule_names()) {
    const PolynomialSchedule schedule = polynomial_schedule(name);
    EXPECT_EQ(schedule.name, name);
    EXPECT_FALSE(schedule.source.empty());
    double low = INFINITY, high = 0;
    for (int i = 0; i <= 20000; ++i) {
      const double out = schedule(std::pow(10.0, -2 * (1 - i / 20000.0)));
      low = std::min(low, out);
      high = std::max(high, out);
    }
    EXPECT_GE(low, schedule.band[0]) << name;
    EXPECT_LE(high, schedule.band[1] + 1e-12) << name;
  }
}

TEST(PolynomialSchedule, AnUnknownNameNamesTheNearest) {
  try {
    polynomial_schedule("qintic");
    FAIL() << "no error";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("Did you mean 'quintic'?"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("'qintic'"), std::string::npos) << e.what();
  }
  EXPECT_THROW(polynomial_schedule(""), UsageError);
}

}  // namespace
}  // namespace schatten::testing
