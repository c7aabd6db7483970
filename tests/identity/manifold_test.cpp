// Unit rows and columns: retraction, geodesic steps, and the formula that leaves the sphere.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/masks.h>

#include <cmath>

namespace schatten {
namespace {

Tensor draw(std::vector<int64_t> shape, int64_t n, at::ScalarType dtype = at::kDouble) {
  return Rng(31).at(n).normal(shape, dtype);
}

/// One matrix with unit rows (or columns), stepped with plain gradients.
struct Sphere {
  Tensor w;
  ParameterInfo info;
  std::unique_ptr<Optimizer> optimizer;

  Sphere(const Retraction& retract, double lr, Stage direction = identity(), int axis = 1, Decay decay = {},
         at::ScalarType dtype = at::kDouble) {
    w = unit_along(draw({12, 20}, 0, dtype), axis == 1 ? UnitAxis::rows : UnitAxis::cols).requires_grad_(true);
    info = infer_parameter("w", w, 0);
    info.unit_axis = axis;
    Recipe recipe{.name = "custom", .direction = std::move(direction), .decay = decay, .retract = retract};
    optimizer = std::make_unique<Optimizer>(std::vector<Parameter>{{info, w}}, std::vector<Route>{{"any", recipe, lr}});
  }
  void step(const Tensor& grad) {
    w.mutable_grad() = grad;
    optimizer->step();
  }
  double off_the_sphere() const {
    const Tensor norms = at::linalg_vector_norm(w.detach(), 2, at::IntArrayRef({info.unit_axis}));
    return (norms - 1).abs().max().item<double>();
  }
};

constexpr RetractionForm kRight[] = {RetractionForm::project, RetractionForm::tangent, RetractionForm::geodesic_fixed,
                                     RetractionForm::geodesic_scaled};

TEST(Retraction, EveryRightFormStaysOnTheSphereAndGoesDownhill) {
  for (const RetractionForm form : kRight)
    for (const int axis : {0, 1}) {
      Sphere s({.form = form}, 0.05, identity(), axis);
      for (int64_t t = 1; t <= 50; ++t) {
        const Tensor before = s.w.detach().clone(), grad = draw({12, 20}, t);
        s.step(grad);
        EXPECT_LT((grad * (s.w.detach() - before)).sum().item<double>(), 0) << enum_name(form);
        EXPECT_LT(s.off_the_sphere(), 1e-14) << enum_name(form) << " axis " << axis;
      }
    }
}

TEST(Retraction, AnAxisCanBeNamedInsteadOfTheModels) {
  for (const int axis : {0, 1}) {
    Sphere by_model({.form = RetractionForm::tangent}, 0.05, identity(), axis);
    Sphere by_name({.form = RetractionForm::tangent, .axis = axis == 1 ? UnitAxis::rows : UnitAxis::cols}, 0.05,
                   identity(), -1);
    by_name.w.detach().copy_(by_model.w.detach());
    for (int64_t t = 1; t <= 3; ++t) {
      by_model.step(draw({12, 20}, t));
      by_name.step(draw({12, 20}, t));
    }
    EXPECT_TRUE(at::equal(by_model.w, by_name.w)) << axis;
  }
}

TEST(Retraction, GeodesicsNeedNoRenormalising) {
  for (const RetractionForm form : {RetractionForm::geodesic_fixed, RetractionForm::geodesic_scaled}) {
    Sphere s({.form = form, .every = 0}, 0.1);
    for (int64_t t = 1; t <= 200; ++t) s.step(draw({12, 20}, t));
    EXPECT_LT(s.off_the_sphere(), 1e-13) << enum_name(form);
  }
}

TEST(Retraction, GeodesicsTurnEachRowByTheAngleTheySay) {
  const double lr = 0.07;
  for (const bool scaled : {false, true}) {
    Sphere s({.form = scaled ? RetractionForm::geodesic_scaled : RetractionForm::geodesic_fixed}, lr);
    const Tensor before = s.w.detach().clone(), grad = draw({12, 20}, 1);
    s.step(grad);
    const Tensor angle = (before * s.w.detach()).sum(1).clamp(-1, 1).acos();
    const Tensor radial = (before * grad).sum(1, true);
    const Tensor tangent = (grad - before * radial).norm(2, {1});
    const Tensor expected = scaled ? tangent * lr : at::full_like(tangent, lr);
    EXPECT_TRUE(at::allclose(angle, expected, 1e-9, 1e-9)) << scaled;
  }
}

TEST(Retraction, TangentAndScaledGeodesicAgreeToThirdOrder) {
  double last = 0;
  for (const double lr : {0.1, 0.05}) {
    Sphere a({.form = RetractionForm::tangent}, lr, scale(0.2)),
        b({.form = RetractionForm::geodesic_scaled}, lr, scale(0.2));
    a.step(draw({12, 20}, 1));
    b.step(draw({12, 20}, 1));
    const double apart = (a.w.detach() - b.w.detach()).abs().max().item<double>();
    if (last > 0) {
      EXPECT_NEAR(last / apart, 8, 1.5);  // half the angle, an eighth of the difference
    }
    last = apart;
  }
}

TEST(Retraction, ThePlansFormulaGoesUphillAndLeavesTheSphere) {
  for (const RetractionForm form : {RetractionForm::plan_fixed, RetractionForm::plan_scaled}) {
    Sphere plan({.form = form, .every = 0}, 0.1, orthogonalize({.schedule = "exact"}));
    Sphere right({.form = RetractionForm::geodesic_fixed, .every = 0}, 0.1, orthogonalize({.schedule = "exact"}));
    const Tensor start = plan.w.detach().clone(), grad = draw({12, 20}, 1);
    plan.step(grad);
    right.step(grad);
    EXPECT_GT((grad * (plan.w.detach() - start)).sum().item<double>(), 0.1) << enum_name(form);
    EXPECT_LT((grad * (right.w.detach() - start)).sum().item<double>(), -0.1);
    EXPECT_GT(plan.off_the_sphere(), 1e-3) << enum_name(form);
    EXPECT_LT(right.off_the_sphere(), 1e-14);
  }
}

TEST(Retraction, EveryKStepsLeavesTheSphereBetweenAndComesBack) {
  for (const int every : {1, 3, 5, 7, 10, 15, 20}) {
    Sphere s({.form = RetractionForm::project, .every = every}, 0.05);
    for (int64_t t = 1; t <= 40; ++t) {
      s.step(draw({12, 20}, t));
      const double off = s.off_the_sphere();
      EXPECT_TRUE(t % every == 0 ? off < 1e-14 : off > 1e-6) << off << " with " << every << " at " << t;
    }
  }
}

TEST(Retraction, InBfloat16RowsAreUnitToItsRounding) {
  for (const RetractionForm form : kRight) {
    Sphere s({.form = form}, 0.05, identity(), 1, {}, at::kBFloat16);
    for (int64_t t = 1; t <= 10; ++t) s.step(draw({12, 20}, t, at::kBFloat16));
    const Tensor norms = s.w.detach().to(at::kFloat).norm(2, {1});
    EXPECT_LT((norms - 1).abs().max().item<double>(), 4e-3) << enum_name(form);
  }
}

TEST(Retraction, WhatTheModelDoesNotKeepUnitIsStepped) {
  Sphere plain({}, 0.05), spared({.form = RetractionForm::geodesic_fixed}, 0.05, identity(), -1);
  plain.w.detach().copy_(spared.w.detach());
  plain.step(draw({12, 20}, 1));
  spared.step(draw({12, 20}, 1));
  EXPECT_TRUE(at::equal(plain.w, spared.w));
}

TEST(Retraction, DecayBeforeAGeodesicIsRefusedWithTheReason) {
  try {
    Sphere({.form = RetractionForm::geodesic_fixed}, 0.1, identity(), 1, decoupled(0.1));
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("unit rows"), std::string::npos) << e.what();
  }
  EXPECT_NO_THROW(Sphere({.form = RetractionForm::project}, 0.1, identity(), 1, decoupled(0.1)));
  EXPECT_THROW(make_recipe(parse_toml("recipe = \"muon\"\nretract = { form = \"project\", every = -1 }")), UsageError);
}

TEST(Composition, AnyNamedRecipeTakesAMaskARetractionAndAController) {
  const Recipe recipe =
      make_recipe(parse_toml("recipe = \"muon\"\nweight_decay = 0.1\ncautious = true\nretract = { form = \"project\", "
                             "axis = \"rows\", every = 5 }\n"
                             "controllers = [{ controller = \"alpha_decay\", every = 10 }]"));
  EXPECT_TRUE(recipe.retract.active());
  EXPECT_EQ(recipe.controllers.size(), 1U);
  EXPECT_EQ(to_json(to_value(make_recipe(to_value(recipe)))), to_json(to_value(recipe)));
  EXPECT_THROW(make_recipe(parse_toml("recipe = \"muon\"\ncontrollers = [{ controller = \"alpha_decay\" }]")),
               UsageError);
}

// --- AlphaDecay: a controller that writes one decay per matrix ---

TEST(AlphaDecay, SpreadsTheDecayOverMatricesAndResumesWithIt) {
  std::vector<Parameter> parameters;
  for (int64_t i = 0; i < 4; ++i) {
    // Spectra k^-s: the steeper, the heavier the tail.
    const Tensor q = std::get<0>(at::linalg_qr(draw({64, 64}, i)));
    const Tensor sigma = at::arange(1, 65, at::kDouble).pow(-0.3 - 0.2 * static_cast<double>(i));
    const Tensor w = at::mm(q * sigma, q.mT()).contiguous().requires_grad_(true);
    parameters.push_back({infer_parameter("layers." + std::to_string(i) + ".w", w, i), w});
  }
  AlphaDecayRecipeOptions o;
  o.weight_decay = 0.1;
  o.alpha.every = 2;
  o.alpha.assign = {.low = 0.5, .high = 1.5, .skip_first = false};
  Optimizer a(parameters, {{"any", alpha_decay(o), 1e-4}});
  for (int t = 0; t < 2; ++t) {
    EXPECT_EQ(a.state().find("layers.0.w/weight_decay"), nullptr);  // not before the first look
    for (Parameter& p : parameters) p.tensor.mutable_grad() = at::ones_like(p.tensor);
    a.step();
  }
  const TensorFile state = a.state();
  const auto decay = [&](int i) { return state.at("layers." + std::to_string(i) + ".w/weight_decay").item<double>(); };
  EXPECT_NEAR(decay(0), 0.15, 1e-9);  // lightest tail: high
  EXPECT_NEAR(decay(3), 0.05, 1e-9);  // heaviest: low
  EXPECT_GT(decay(1), decay(2));
  Optimizer b(parameters, {{"any", alpha_decay(o), 1e-4}});
  b.load_state(state);
  EXPECT_EQ(b.state().at("layers.1.w/weight_decay").item<double>(), decay(1));
}

}  // namespace
}  // namespace schatten
