// Fast paths of low-rank and second-order recipes against the slow ones: directions, products, projections, chains.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/papers.h>
#include <schatten/stages/masks.h>

#include <cmath>

namespace schatten {
namespace {

Tensor draw(std::vector<int64_t> shape, int64_t n, at::ScalarType dtype) { return Rng(41).at(n).normal(shape, dtype); }

struct Trial {
  Tensor weight;
  std::vector<Parameter> parameters;
  Optimizer optimizer;

  explicit Trial(const Recipe& recipe, std::vector<int64_t> shape = {80, 96}, at::ScalarType dtype = at::kDouble,
                 uint64_t seed = 5)
      : weight(at::zeros(shape, dtype).requires_grad_(true)),
        parameters{{infer_parameter("w", weight, 0), weight}},
        optimizer(parameters, {{"any", recipe, 0.1}}, {.seed = seed}) {}
  /// Gradients with a few strong directions.
  Tensor gradient(int64_t t) const {
    const auto dtype = weight.scalar_type();
    const Tensor strong = at::mm(draw({weight.size(0), 8}, 3 * t, dtype), draw({8, weight.size(1)}, 3 * t + 1, dtype));
    return strong + 0.1 * draw(weight.sizes().vec(), 3 * t + 2, dtype);
  }
  Tensor steps(int count) {
    for (int t = 1; t <= count; ++t) {
      weight.mutable_grad() = gradient(t);
      optimizer.step();
    }
    return weight.detach().clone();
  }
};

double distance(const Tensor& a, const Tensor& b) {
  return ((a - b).to(at::kDouble).norm() / b.to(at::kDouble).norm()).item<double>();
}

constexpr SubspaceType kTypes[] = {SubspaceType::std, SubspaceType::reverse_std, SubspaceType::left,
                                   SubspaceType::right};

TEST(Refresh, ByGramMatrixTakesTheSvdsWay) {
  for (const auto& shape : {std::vector<int64_t>{80, 96}, {96, 80}, {80, 80}})
    for (const SubspaceType type : kTypes) {
      const auto end = [&](Leading how) {
        return Trial(galore({.rank = 8, .refresh_every = 3, .refresh = how, .type = type}), shape).steps(7);
      };
      EXPECT_LT(distance(end(Leading::gram), end(Leading::svd)), 1e-9) << enum_name(type) << shape[0];
    }
}

TEST(Refresh, BySketchKeepsTheGradientsEnergy) {
  const auto kept = [](Leading how) {
    Trial run(galore({.rank = 8, .refresh = how}));
    run.steps(1);
    return at::mm(run.optimizer.slot("w", "P").mT(), run.gradient(1)).norm().item<double>();
  };
  EXPECT_NEAR(kept(Leading::randomized) / kept(Leading::svd), 1, 1e-4);
}

TEST(Refresh, DrawsComeFromSeedParameterAndStep) {
  const Recipe recipe = galore({.rank = 4, .refresh_every = 2, .refresh = Leading::randomized});
  EXPECT_TRUE(at::equal(Trial(recipe).steps(5), Trial(recipe).steps(5)));
  EXPECT_FALSE(at::equal(Trial(recipe).steps(5), Trial(recipe, {80, 96}, at::kDouble, 6).steps(5)));
}

TEST(Refresh, EveryBracketTakesEveryWay) {
  for (const Leading how : {Leading::svd, Leading::gram, Leading::randomized}) {
    FiraOptions residual;
    residual.subspace.refresh = how;
    for (const Recipe& recipe : {galore({.refresh = how, .type = SubspaceType::full}), fira(residual),
                                 gum({.refresh = how}), gum({.variant = GumVariant::complement, .refresh = how}),
                                 apollo({.refresh = how, .projection = ApolloProjection::svd})}) {
      Trial run(recipe, {80, 96}, at::kFloat);
      EXPECT_TRUE(run.steps(3).isfinite().all().item<bool>()) << recipe.name << enum_name(how);
      Trial broken(recipe, {80, 96}, at::kFloat);
      broken.weight.mutable_grad() = broken.gradient(1);
      broken.weight.mutable_grad()[3][4] = NAN;
      broken.optimizer.step();
      EXPECT_FALSE(broken.weight.isfinite().all().item<bool>()) << recipe.name << enum_name(how);
    }
  }
}

TEST(Apollo, AKeptProjectionIsTheRedrawnOne) {
  for (const auto& shape : {std::vector<int64_t>{80, 96}, {96, 80}}) {
    const ApolloOptions redrawn{.rank = 8, .refresh_every = 3};
    ApolloOptions kept = redrawn;
    kept.keep_projection = true;
    Trial a(apollo(redrawn), shape, at::kFloat), b(apollo(kept), shape, at::kFloat);
    EXPECT_TRUE(at::equal(a.steps(7), b.steps(7)));
    EXPECT_EQ(b.optimizer.state_bytes() - a.optimizer.state_bytes(), 4 * 80 * 8);
  }
}

/// Rounding decides what directions of hardly any gradient are, in float32 as well: the yardstick is how far float32
/// ends from float64. Square: the null space of a longer side's first statistics has a basis by rounding only.
TEST(ProductAccuracy, OfSplitBfloat16IsAsGoodAsFloat32) {
  const auto end = [](const std::string& recipe, Products how, at::ScalarType dtype) {
    if (recipe == "galore") return Trial(galore({.rank = 64, .products = how}), {128, 96}, dtype).steps(6);
    if (recipe == "apollo") return Trial(apollo({.rank = 64, .products = how}), {128, 96}, dtype).steps(6);
    if (recipe == "shampoo") return Trial(shampoo({.products = how}), {128, 96}, dtype).steps(6);
    return Trial(soap({.every = 2, .products = how}), {96, 96}, dtype).steps(6);
  };
  for (const std::string recipe : {"galore", "apollo", "soap", "shampoo"}) {
    const Tensor exact = end(recipe, Products::float32, at::kDouble);
    const auto off = [&](Products how) { return distance(end(recipe, how, at::kFloat), exact); };
    const double single = off(Products::float32);
    EXPECT_LT(off(Products::bfloat16x2), 2 * single + 1e-3) << recipe;
    EXPECT_LT(off(Products::automatic), 2 * single + 1e-3) << recipe;
    EXPECT_LT(off(Products::bfloat16), 2 * single + 0.2) << recipe;
    EXPECT_TRUE(at::equal(end(recipe, Products::bfloat16, at::kDouble), exact)) << recipe;  // float64 stays float64
  }
}

/// Stages behind the first may write over what they get: neither gradient nor state may notice.
TEST(ChainInPlace, TouchesNothingOfOthers) {
  const Stage inner = chain({ema({.beta = 0.5}), scale(3), named("again", chain({scale(0.5), adam_correction({})}))});
  Trial run({.name = "custom", .direction = inner});
  Tensor momentum = at::zeros({80, 96}, at::kDouble), expected = momentum.clone();
  for (int t = 1; t <= 4; ++t) {
    const Tensor g = run.gradient(t);
    run.weight.mutable_grad() = g.clone();
    run.optimizer.step();
    momentum.lerp_(g, 0.5);
    expected.sub_(momentum, 0.1 * 1.5 * std::sqrt(1 - std::pow(0.999, t)) / (1 - std::pow(0.9, t)));
    EXPECT_TRUE(at::equal(run.weight.grad(), g));
    EXPECT_LT(distance(run.optimizer.slot("w", "momentum_buffer"), momentum), 1e-14);
    EXPECT_LT(distance(run.weight.detach(), expected), 1e-13);
  }
  Trial alone({.name = "custom", .direction = chain({scale(2), named("thrice", scale(3))})});
  const Tensor g = alone.gradient(1);
  alone.weight.mutable_grad() = g.clone();
  alone.optimizer.step();
  EXPECT_TRUE(at::equal(alone.weight.grad(), g));
  EXPECT_LT(distance(alone.weight.detach(), g * -0.6), 1e-14);
}

}  // namespace
}  // namespace schatten
