// Newton-Schulz acts on singular values: its oracle is its scalar polynomial on a float64 spectrum.
#include <gtest/gtest.h>
#include <schatten/linalg/polar.h>

#include <iostream>

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

/// diag(s) X in float64, by loops: its own code, short side first.
Known almost_orthogonal(const Known& matrix, const NewtonSchulzOptions& o) {
  const Tensor whole = matrix.x(), x = whole.size(0) > whole.size(1) ? whole.mT() : whole;
  const Tensor gram = (x / x.norm()).mm((x / x.norm()).mT());
  Tensor out = (x / x.norm()).clone();
  for (int64_t i = 0; i < x.size(0); ++i) {
    double sum = 0;
    for (int64_t j = 0; j < x.size(0); ++j) sum += std::abs(gram[i][j].item<double>());
    out[i].div_(std::sqrt(std::max(sum, o.eps)) * o.schedule.norm_margin);
  }
  return decomposed(whole.size(0) > whole.size(1) ? out.mT() : out);
}

/// The scalar schedule on the singular values, after the scaling that the options ask for.
Tensor oracle(const Known& matrix, const NewtonSchulzOptions& o) {
  if (o.schedule.preconditioner == Preconditioner::aol) return almost_orthogonal(matrix, o).mapped(o.schedule);
  double squares = 0;
  for (const double s : matrix.sigma) squares += s * s;
  const double norm = std::sqrt(squares) * o.schedule.norm_margin;
  const double divisor = o.eps_mode == EpsMode::add ? norm + o.eps : std::max(norm, o.eps);
  return matrix.mapped([&](double s) { return o.schedule(s / divisor); });
}

/// What rounding errors grow by at most: the steepest slope of the composition on [0, 1].
double steepest(const PolynomialSchedule& schedule) {
  double steepest = 0;
  for (int i = 0; i <= 1000; ++i) {
    double s = i / 1000.0, slope = 1;
    for (const auto& [a, b, c] : schedule.coefficients) {
      const double q = s * s;
      slope *= a + q * (3 * b + q * 5 * c);
      s *= a + q * (b + q * c);
    }
    steepest = std::max(steepest, std::abs(slope));
  }
  return steepest;
}

TEST(NewtonSchulz, IsItsScalarScheduleOnSingularValues) {
  for (const std::string& name : polynomial_schedule_names())
    for (const QuinticRounding rounding : kRoundings)
      for (const Shape& shape : kShapes)
        for (const Input& input : inputs(shape)) {
          const NewtonSchulzOptions o{.schedule = polynomial_schedule(name), .rounding = rounding};
          const double slope = std::max(steepest(o.schedule), 485.0);
          const Tensor x = input.matrix.x(), expected = oracle(input.matrix, o);
          SCOPED_TRACE(name + ", " + shape.name + ", " + input.name);
          EXPECT_LT(relative_error(newton_schulz(x, o), expected), 2e-15 * slope);
          EXPECT_LT(relative_error(newton_schulz(x.to(at::kFloat), o), expected), 4e-7 * slope);
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

// --- published outputs on rational inputs ---

/// g(i, j) = ((37 i^2 + 101 ij + 53 j + 17 i + 11) mod 97) / 97 - 1/2.
Tensor rational(int64_t rows, int64_t cols) {
  Tensor g = at::empty({rows, cols}, at::kDouble);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      g[i][j] = static_cast<double>((37 * i * i + 101 * i * j + 53 * j + 17 * i + 11) % 97) / 97 - 0.5;
  return g;
}

struct Published {
  const char* name;
  int steps;
  double eps;
  std::array<double, 4> wide, tall;  // [0,0], [1,2], [last,last], Frobenius norm of the output for 4x6 and 6x4
};
constexpr Published kPublished[] = {{"quintic",
                                     5,
                                     1e-7,
                                     {-.499665994085, .237746508049, -.303135932493, 1.919307501841},
                                     {-.286963780321, .405298703953, .117640045379, 1.779302778823}},
                                    {"you",
                                     5,
                                     1e-7,
                                     {-.472212789828, .371537506405, -.356873940547, 2.002298979636},
                                     {-.419059150489, .411686905176, .127440563370, 1.973620730094}},
                                    {"modded",
                                     5,
                                     1e-6,
                                     {-.474535474502, .408011578762, -.381362611752, 2.113294544283},
                                     {-.492976576544, .430888353421, .103141816329, 2.095279971629}},
                                    {"polar_express",
                                     5,
                                     1e-7,
                                     {-.460267235384, .325860722137, -.294657359430, 1.866729006762},
                                     {-.372879434097, .418715010211, .113900496713, 2.109899271985}},
                                    {"gram105",
                                     5,
                                     1e-7,
                                     {-.464850607070, .346187953655, -.275205174524, 1.877668363598},
                                     {-.461684177785, .462854300862, .153832136544, 2.020165472477}},
                                    {"aol_a",
                                     4,
                                     1e-7,
                                     {-.454287387039, .348192854712, -.364402607662, 1.954501850919},
                                     {-.421610714644, .409607504449, .101636861906, 1.945964495431}},
                                    {"aol_b",
                                     4,
                                     1e-7,
                                     {-.485842541460, .372254070793, -.346605001584, 1.993399041780},
                                     {-.427564078546, .402569365612, .093881812565, 2.019596662487}},
                                    {"cubic",
                                     5,
                                     1e-7,
                                     {-.472742607944, .382396639298, -.319730946416, 1.935187667069},
                                     {-.429700251465, .415158918359, .137143740160, 1.987524167652}},
                                    {"cubic",
                                     30,
                                     1e-7,
                                     {-.473942567769, .369807869074, -.357544970088, 2},
                                     {-.429232824329, .412905959928, .130542540305, 2}}};

double distance(const Tensor& out, const std::array<double, 4>& values) {
  const std::array<double, 4> got = {out[0][0].item<double>(), out[1][2].item<double>(), out[-1][-1].item<double>(),
                                     out.norm().item<double>()};
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - values[i]));
  return worst;
}

TEST(NewtonSchulz, HasThePublishedOutputs) {
  for (const auto iteration : {PolarIteration::textbook, PolarIteration::gram})
    for (const Published& p : kPublished) {
      const NewtonSchulzOptions o{
          .schedule = polynomial_schedule(p.name, p.steps), .eps = p.eps, .iteration = iteration};
      const double wide = distance(newton_schulz(rational(4, 6), o), p.wide);
      const double tall = distance(newton_schulz(rational(6, 4), o), p.tall);
      std::cout << "    " << p.name << " x" << p.steps << ": " << wide << ", " << tall << "\n";
      EXPECT_LT(wide, 1e-10) << p.name;
      EXPECT_LT(tall, 1e-10) << p.name;
    }
}

TEST(NewtonSchulz, PublishedOutputsTellMarginEpsAndPreconditionerApart) {
  const auto miss = [](const Published& p, const std::function<void(NewtonSchulzOptions&)>& change) {
    NewtonSchulzOptions o{.schedule = polynomial_schedule(p.name, p.steps), .eps = p.eps};
    change(o);
    return distance(newton_schulz(rational(4, 6), o), p.wide);
  };
  EXPECT_GT(miss(kPublished[2], [](auto& o) { o.schedule.norm_margin = 1.01; }), 1e-4);
  EXPECT_GT(miss(kPublished[2], [](auto& o) { o.eps = 1e-7; }), 1e-8);
  EXPECT_GT(miss(kPublished[5], [](auto& o) { o.schedule.preconditioner = Preconditioner::none; }), 1e-4);
  EXPECT_GT(miss(kPublished[1], [](auto& o) { o.schedule.preconditioner = Preconditioner::aol; }), 1e-4);
}

// --- the Gram iteration ---

constexpr double kGramTolerance = 1e-9;

TEST(GramIteration, EqualsTheTextbook) {
  for (const std::string& name : polynomial_schedule_names())
    for (const std::vector<int64_t>& restarts :
         std::vector<std::vector<int64_t>>{{2}, {1, 3}, {1}, {0, 2, 99}, {0}, {}})
      for (const Shape& shape : kShapes)
        for (const Input& input : inputs(shape)) {
          NewtonSchulzOptions o{.schedule = polynomial_schedule(name)};
          const Tensor x = input.matrix.x(), expected = newton_schulz(x, o);
          o.iteration = PolarIteration::gram;
          o.restarts = restarts;
          SCOPED_TRACE(name + ", " + shape.name + ", " + input.name + ", " + std::to_string(restarts.size()));
          EXPECT_LT(relative_error(newton_schulz(x, o), expected), kGramTolerance);
        }
}

TEST(GramIteration, StaysNearInSmallerTypesWithItsRestart) {
  const Known matrix = known(96, 256, log_spaced(1e-6));
  NewtonSchulzOptions o{.schedule = polynomial_schedule("gram105")};
  const Tensor expected = newton_schulz(matrix.x(), o);
  o.iteration = PolarIteration::gram;
  const auto error = [&](at::ScalarType dtype, std::vector<int64_t> restarts) {
    o.restarts = std::move(restarts);
    return relative_error(newton_schulz(matrix.x().to(dtype), o), expected);
  };
  std::cout << "    float32 " << error(at::kFloat, {2}) << ", bfloat16 " << error(at::kBFloat16, {2})
            << ", without restart " << error(at::kBFloat16, {0}) << "\n";
  EXPECT_LT(error(at::kFloat, {2}), 1e-3);
  EXPECT_LT(error(at::kBFloat16, {2}), 0.6);
  EXPECT_LT(error(at::kBFloat16, {}), 0.6);
  EXPECT_GT(error(at::kBFloat16, {0}), 10);
}

TEST(GramIteration, TakesTheTriangleForSquares) {
  const Tensor x = gaussian({3, 20, 20}, 20);
  for (const QuinticRounding rounding : kRoundings) {
    NewtonSchulzOptions o{.schedule = polynomial_schedule("gram105"), .iteration = PolarIteration::triangle};
    const Tensor expected = newton_schulz(x, o);
    o.iteration = PolarIteration::gram;
    o.rounding = rounding;
    EXPECT_TRUE(at::equal(newton_schulz(x, o), expected));
  }
}

TEST(GramIteration, BatchesZerosNaNAndNoSteps) {
  for (const char* name : {"gram105", "aol_a"}) {
    NewtonSchulzOptions o{.schedule = polynomial_schedule(name), .iteration = PolarIteration::gram};
    for (const auto& shape : std::vector<std::vector<int64_t>>{{2, 3, 8, 12}, {2, 3, 12, 8}}) {
      Tensor x = gaussian(shape, 21);
      x[0][1].zero_();
      x[1][2][3][3] = NAN;
      const Tensor before = x.clone(), out = newton_schulz(x, o);
      ASSERT_EQ(out.sizes(), x.sizes());
      EXPECT_TRUE(at::equal(out[0][1], x[0][1])) << name;
      EXPECT_TRUE(all_nan(out[1][2])) << name;
      EXPECT_LT(relative_error(out[1][0], newton_schulz(x[1][0], o)), 1e-12) << name;
      EXPECT_FALSE(out.is_alias_of(x)) << name;
      EXPECT_TRUE(at::equal(x.nan_to_num(7), before.nan_to_num(7))) << name;
    }
    o.schedule.coefficients.clear();
    const Tensor x = gaussian({8, 12}, 22);
    EXPECT_FALSE(newton_schulz(x, o).is_alias_of(x)) << name;
  }
}

// --- AOL ---

/// The first X alone: a schedule without steps.
Tensor preconditioned(const Tensor& x, double eps = 1e-7) {
  return newton_schulz(x, {.schedule = {.preconditioner = Preconditioner::aol}, .eps = eps});
}
double largest(const Tensor& x) { return std::get<1>(at::linalg_svd(x, false))[0].item<double>(); }

TEST(Aol, BoundsTheLargestSingularValueByOne) {
  for (const Shape& shape : kShapes)
    for (const Input& input : inputs(shape)) {
      const double top = largest(preconditioned(input.matrix.x()));
      EXPECT_LE(top, 1 + 1e-12) << shape.name << ", " << input.name;
      EXPECT_GT(top, input.name == "rank one" ? 1 - 1e-12 : 0) << shape.name;
      EXPECT_GT(top, largest(input.matrix.x() / input.matrix.x().norm()) - 1e-12) << "no worse than |X|_F";
    }
}

TEST(Aol, DoesNotSeeTheScaleOfItsInput) {
  for (const char* name : {"aol_a", "aol_b"})
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{64, 256}, {256, 64}}) {
      const NewtonSchulzOptions o{.schedule = polynomial_schedule(name)};
      const Tensor g = gaussian({rows, cols}, 23), unit = g / g.norm(), expected = newton_schulz(unit, o);
      for (const double scale : {1e-12, 1e-5, 1e-3, 1e6}) {
        EXPECT_LT(relative_error(newton_schulz(unit * scale, o), expected), 1e-12) << name << " " << scale;
        EXPECT_LT(relative_error(newton_schulz((unit * scale).to(at::kFloat), o), expected), 1e-4)
            << name << " " << scale;
      }
      EXPECT_NEAR(expected.norm().item<double>(), 8, 0.4);  // the published code has 46 % of this at |G|_F = 1e-5
    }
}

TEST(Aol, KeepsTheSignOfNearlyRankOneInput) {
  const Known matrix = known(24, 40, [](int64_t k, int64_t) { return k == 0 ? 1 : 1e-3; });
  const Tensor first = at::outer(matrix.u.select(1, 0), matrix.v.select(1, 0));
  for (const char* name : {"aol_a", "aol_b"}) {
    const Tensor out = newton_schulz(matrix.x(), {.schedule = polynomial_schedule(name)});
    EXPECT_GT((out * first).sum().item<double>(), 0.9) << name;
  }
}

TEST(Aol, MovesThePolarFactorByHalfAPerCentAtAspectFour) {
  const Known matrix = decomposed(gaussian({64, 256}, 24));
  const Tensor exact = matrix.mapped([](double) { return 1.0; });
  EXPECT_LT(relative_error(decomposed(preconditioned(matrix.x())).mapped([](double) { return 1.0; }), exact), 0.02);
  for (const char* name : {"aol_a", "aol_b"})
    EXPECT_LT(relative_error(newton_schulz(matrix.x(), {.schedule = polynomial_schedule(name)}), exact), 0.05) << name;
}

TEST(Aol, ZeroRowsAndNoEpsStayFinite) {
  Tensor x = gaussian({6, 9}, 25);
  x[2].zero_();
  for (const double eps : {1e-7, 0.0}) {
    const Tensor out = newton_schulz(x, {.schedule = polynomial_schedule("aol_a"), .eps = eps});
    EXPECT_TRUE(out.isfinite().all().item<bool>()) << eps;
    EXPECT_EQ(out[2].abs().max().item<double>(), 0) << eps;
  }
}

}  // namespace
}  // namespace schatten::testing
