// Second-order recipes in settings where they must equal something known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/papers/papers.h>
#include <schatten/stages/lion.h>
#include <schatten/stages/masks.h>

#include <cmath>

namespace schatten {
namespace {

Tensor draw(const std::vector<int64_t>& shape, int64_t n) { return Rng(51).at(n).normal(shape, at::kDouble); }
double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

using Gradient = std::function<Tensor(int64_t step)>;

/// What a recipe subtracts at each step of one parameter, undecayed, lr 1.
std::vector<Tensor> updates(const Stage& direction, const std::vector<int64_t>& shape, const Gradient& gradient,
                            int64_t steps) {
  const Tensor w = at::zeros(shape, at::kDouble).requires_grad_(true);
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}},
                {{"any", {.name = "r", .direction = direction}, 1.0}});
  std::vector<Tensor> all;
  Tensor before = w.detach().clone();
  for (int64_t t = 1; t <= steps; ++t) {
    w.mutable_grad() = gradient(t);
    opt.step();
    all.push_back(before - w.detach());
    before = w.detach().clone();
  }
  return all;
}
std::vector<Tensor> updates(const Stage& direction, const std::vector<int64_t>& shape, int64_t steps) {
  return updates(direction, shape, [&](int64_t t) { return draw(shape, t); }, steps);
}
double worst(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) most = std::max(most, distance(a[i], b[i]));
  return most;
}

// --- Shampoo ---

TEST(Shampoo, FirstStepIsThePolarFactor) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{6, 9}, {9, 6}, {7, 7}})
    for (const ShampooSides sides : {ShampooSides::both, ShampooSides::smaller})
      for (const Accumulation how : {Accumulation::sum, Accumulation::ema})
        for (const double beta : {0.0, 0.95}) {
          const Shampoo o{.sides = sides, .accumulation = how, .beta = beta, .eps = 0};
          const Tensor polar = spectral_power_svd(draw(shape, 1), 0);
          EXPECT_LT(distance(updates(shampoo_precondition(o), shape, 1)[0], polar), 1e-9);
          Shampoo broken = o;
          broken.eps = 1;
          EXPECT_GT(distance(updates(shampoo_precondition(broken), shape, 1)[0], polar), 1e-2);
        }
}

TEST(Shampoo, OneGradientAgainAndAgain) {
  const auto same = [](int64_t) { return draw({6, 9}, 1); };
  const Tensor polar = spectral_power_svd(draw({6, 9}, 1), 0);
  for (const ShampooSides sides : {ShampooSides::both, ShampooSides::smaller}) {
    const auto ema = updates(shampoo_precondition({.sides = sides, .eps = 0, .every = 3}), {6, 9}, same, 7);
    const auto sum =
        updates(shampoo_precondition({.sides = sides, .accumulation = Accumulation::sum, .eps = 0, .every = 1}), {6, 9},
                same, 7);
    for (size_t t = 0; t < 7; ++t) {
      EXPECT_LT(distance(ema[t], polar), 1e-9);
      EXPECT_LT(distance(sum[t], polar / std::sqrt(static_cast<double>(t + 1))), 1e-9);
    }
  }
}

TEST(Shampoo, RootsAreRenewedEveryFewSteps) {
  const auto always = updates(shampoo_precondition({.every = 1}), {6, 9}, 7);
  const auto lazy = updates(shampoo_precondition({.every = 3}), {6, 9}, 7);
  for (size_t t = 1; t <= 7; ++t) {
    const bool fresh = t <= 3 || t % 3 == 0;
    EXPECT_EQ(distance(always[t - 1], lazy[t - 1]) < 1e-12, fresh) << t;
  }
}

TEST(Shampoo, ALongSideIsLeftAlone) {
  const auto one_sided = updates(shampoo_precondition({.sides = ShampooSides::smaller}), {6, 9}, 4);
  EXPECT_EQ(worst(updates(shampoo_precondition({.max_dim = 8}), {6, 9}, 4), one_sided), 0);
  EXPECT_THROW(updates(shampoo_precondition({.max_dim = 5}), {6, 9}, 1), UsageError);
  EXPECT_THROW(shampoo_precondition({.beta = 1}), UsageError);
  EXPECT_THROW(shampoo_precondition({.eps = -1}), UsageError);
  EXPECT_THROW(shampoo_precondition({.every = 0}), UsageError);
  EXPECT_THROW(shampoo_precondition({.max_dim = 0}), UsageError);
  EXPECT_THROW(shampoo_precondition({.compute = ComputeDtype::bfloat16}), UsageError);
  EXPECT_THROW(shampoo({.momentum = 1}), UsageError);
}

// --- SOAP ---

/// The updates of `alone` on the second gradient and those after it, with the empty first step in front.
std::vector<Tensor> without_first(const Stage& alone, const std::vector<int64_t>& shape, const Gradient& gradient,
                                  int64_t steps) {
  std::vector<Tensor> rest = updates(alone, shape, [&](int64_t t) { return gradient(t + 1); }, steps - 1);
  rest.insert(rest.begin(), at::zeros(shape, at::kDouble));
  return rest;
}
constexpr int kNever = 1 << 30;

TEST(Soap, InAFrozenIdentityBasisIsAdam) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{6, 6}, {5, 8}}) {
    const auto gradient = [&](int64_t t) {  // the first one has diagonal statistics, in an order of its own
      const Tensor first = at::zeros(shape, at::kDouble);
      for (int64_t i = 0; i < 5; ++i) first[i][i] = static_cast<double>((3 * i) % 5 + 1);
      return t == 1 ? first : draw(shape, t);
    };
    const Stage adam = scale_by_adam({.form = AdamForm::uncorrected_eps});
    const Stage soap = in_eigenbasis({.every = kNever}, adam);
    EXPECT_LT(worst(updates(soap, shape, gradient, 6), without_first(adam, shape, gradient, 6)), 1e-12);
    const Stage turning = in_eigenbasis({.every = 2}, adam);
    EXPECT_GT(worst(updates(turning, shape, gradient, 6), without_first(adam, shape, gradient, 6)), 1e-2);
  }
}

TEST(Soap, SecondMomentsFollowTheOrderOfTheColumns) {
  const std::vector<int64_t> shape{5, 5};
  const auto gradient = [&](int64_t t) {  // diagonal, and largest somewhere else each time
    const Tensor g = at::zeros(shape, at::kDouble);
    for (int64_t i = 0; i < 5; ++i) g[i][i] = std::pow(3.0, static_cast<double>((i * 2 + t) % 5));
    return g;
  };
  const Stage adam = scale_by_adam({.form = AdamForm::uncorrected_eps});
  const auto soap = updates(in_eigenbasis({.beta = 0.5, .every = 1}, adam), shape, gradient, 9);
  EXPECT_LT(worst(soap, without_first(adam, shape, gradient, 9)), 1e-6);  // rounding beside the diagonal, / eps
}

TEST(Soap, MomentumTurnsWithTheBasis) {
  // A linear stage does not see the basis, as long as its buffer is carried along.
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{6, 9}, {9, 6}, {4, 3, 2, 2}, {1, 7}, {7}})
    for (const bool merge : {false, true}) {
      const auto gradient = [&](int64_t t) { return draw(shape, t); };
      const Stage inner = ema({.beta = 0.9, .nesterov = true});
      const Stage soap =
          in_eigenbasis({.every = 2, .max_dim = merge ? 8 : 100, .merge_dims = merge, .precondition_1d = true}, inner);
      EXPECT_LT(worst(updates(soap, shape, gradient, 8), without_first(inner, shape, gradient, 8)), 1e-12);
    }
}

TEST(Soap, NormalizedUpdatesHaveOneSize) {
  const auto rms = [](const Tensor& u) { return u.square().mean().sqrt().item<double>(); };
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{6, 9}, {9}, {4, 3, 2, 2}}) {
    const auto right = updates(soap({.normalize = SoapNorm::rms}).direction, shape, 5);
    const auto released = updates(soap({.normalize = SoapNorm::rms_released}).direction, shape, 5);
    for (int64_t t = 1; t < 5; ++t) {
      EXPECT_NEAR(rms(right[static_cast<size_t>(t)]), 1, 1e-12);
      const double b = std::pow(0.95, static_cast<double>(t));
      EXPECT_NEAR(rms(released[static_cast<size_t>(t)]), std::sqrt(1 - b) / (1 - b), 1e-12);
    }
  }
}

TEST(Soap, RunsLionInItsBasisAndPlansWhatItAllocates) {
  const Recipe lion{.name = "soap_lion",
                    .direction = in_eigenbasis({.every = 2}, chain({lion_momentum({}), schatten::sign()}))};
  const Tensor w = at::zeros({6, 9}).requires_grad_(true);
  const std::vector<Parameter> one{{infer_parameter("w", w, 0), w}};
  Optimizer opt(one, {{"any", lion, 1.0}});
  EXPECT_EQ(opt.state_bytes(), 4 * (6 * 9 + 2 * (6 * 6 + 9 * 9)));
  EXPECT_EQ(plan_state_bytes({one[0].info}, {{"any", lion, 1.0}}, at::kFloat), opt.state_bytes());
  for (int64_t t = 1; t <= 6; ++t) {
    const Tensor before = w.detach().clone();
    w.mutable_grad() = draw({6, 9}, t).to(at::kFloat);
    opt.step();
    const double moved = (w.detach() - before).norm().item<double>();
    EXPECT_NEAR(moved, t == 1 ? 0 : std::sqrt(54.0), 1e-4);  // signs, turned
  }
  EXPECT_TRUE(opt.slot("w", "in_eigenbasis/lion_momentum/exp_avg").defined());
}

struct ReadsParam {
  std::string name() const { return "reads_param"; }
  Traits traits() const { return {.reads_param = true}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step& step) const { return u + step.param; }
  Value to_value() const { return Value::Table{{"stage", name()}}; }
};

TEST(Soap, WhatCannotBeTurnedIsRefusedWithTheWayOut) {
  const auto message = [](const std::function<void()>& build) -> std::string {
    try {
      build();
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message([] { in_eigenbasis({}, ReadsParam{}); }).find("before or after the bracket"), std::string::npos);
  const auto built = [](const Stage& inner) { updates(in_eigenbasis({}, inner), {6, 6}, 1); };
  EXPECT_NE(message([&] { built(spectral_power({.method = PowerMethod::streaming})); }).find("spectral_power/V"),
            std::string::npos);
  EXPECT_NE(message([&] { built(shampoo_precondition({})); }).find("shampoo_precondition/L"), std::string::npos);
  EXPECT_NE(message([&] { built(in_eigenbasis({}, identity())); }).find("in_eigenbasis/GG0"), std::string::npos);
  EXPECT_EQ(message([&] { built(normalize_variance({})); }), "");  // one number per row: follows
  EXPECT_THROW(in_eigenbasis({.beta = 1}, identity()), UsageError);
  EXPECT_THROW(in_eigenbasis({.every = 0}, identity()), UsageError);
  EXPECT_THROW(in_eigenbasis({.max_dim = 0}, identity()), UsageError);
  EXPECT_THROW(adam_correction({.beta1 = 1}), UsageError);
  EXPECT_THROW(adam_correction({.beta2 = -0.1}), UsageError);
}

TEST(Soap, TheFirstStepDoesNotEvenDecay) {
  const Tensor w = draw({6, 9}, 0).requires_grad_(true), before = w.detach().clone();
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}}, {{"any", soap({.weight_decay = 0.5}), 0.1}});
  w.mutable_grad() = draw({6, 9}, 1);
  opt.step();
  EXPECT_TRUE(at::equal(w.detach(), before));
  opt.step();
  EXPECT_FALSE(at::equal(w.detach(), before));
}

TEST(Soap, TheFirstBasisIsTheGradientsSingularOne) {
  const Tensor w = at::zeros({6, 9}, at::kDouble).requires_grad_(true), g = draw({6, 9}, 1);
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}}, {{"any", soap({}), 0.1}});
  w.mutable_grad() = g.clone();
  opt.step();
  const auto [u, s, vh] = at::linalg_svd(g, false);
  const Tensor left = at::mm(u.mT(), opt.slot("w", "Q0")), right = at::mm(vh, opt.slot("w", "Q1")).narrow(1, 0, 6);
  EXPECT_LT(distance(left.abs(), at::eye(6, at::kDouble)), 1e-10);  // largest first
  EXPECT_LT(distance(right.abs(), at::eye(6, at::kDouble)), 1e-10);
  EXPECT_LT(distance(opt.slot("w", "GG0"), at::mm(g, g.mT()) * 0.05), 1e-12);
}

TEST(Soap, ABadFirstGradientSurfaces) {
  Tensor bad = draw({6, 9}, 1);
  bad[2][3] = NAN;
  const auto all = updates(soap({}).direction, {6, 9}, [&](int64_t t) { return t == 1 ? bad : draw({6, 9}, t); }, 1);
  EXPECT_TRUE(all[0].isnan().all().item<bool>());
}

// --- COSMOS ---

TEST(Cosmos, EveryUpdateHasTheSizeOfLrRatio) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{12, 16}, {16, 12}, {8, 3, 2, 2}})
    for (const double scale : {1e-3, 1e3}) {
      const auto gradient = [&](int64_t t) { return draw(shape, t) * scale; };
      for (const Tensor& u : updates(cosmos({.rank = 3, .lr_ratio = 0.3}).direction, shape, gradient, 5))
        EXPECT_NEAR(u.square().mean().sqrt().item<double>(), 0.3, 1e-6);
    }
}

TEST(Cosmos, AtFullRankOneStepIsSignsInTheSingularBasis) {
  const Tensor g = draw({6, 9}, 1);
  const auto [u, s, vh] = at::linalg_svd(g, false);
  const Tensor signs = at::mm(at::mm(g, vh.mT()).sign(), vh);
  const Tensor expected = signs * (0.2 * std::sqrt(54.0)) / signs.norm();
  EXPECT_LT(distance(updates(cosmos({.rank = 6}).direction, {6, 9}, 1)[0], expected), 1e-6);
}

TEST(Cosmos, TheSubspaceSettlesOnTheLeadingOne) {
  const Tensor u = std::get<0>(at::linalg_qr(draw({12, 12}, 1))), v = std::get<0>(at::linalg_qr(draw({16, 12}, 2)));
  const Tensor sigma = at::pow(0.5, at::arange(12, at::kDouble)), g = at::mm(u * sigma, v.mT());
  const Tensor w = at::zeros({12, 16}, at::kDouble).requires_grad_(true);
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}}, {{"any", cosmos({.rank = 3}), 0.1}});
  w.mutable_grad() = draw({12, 16}, 3);  // begins elsewhere
  opt.step();
  for (int t = 0; t < 200; ++t) {
    w.mutable_grad() = g.clone();
    opt.step();
  }
  const Tensor p = opt.slot("w", "P"), leading = v.narrow(1, 0, 3);
  EXPECT_LT(distance(at::mm(p, p.mT()), at::mm(leading, leading.mT())), 1e-3);
  EXPECT_LT(distance(at::mm(p.mT(), p), at::eye(3, at::kDouble)), 1e-12);
}

TEST(Cosmos, VectorsAndTallMatricesAreOnAdam) {
  const Stage adam = scale_by_adam({.beta1 = 0.95, .beta2 = 0.95});
  EXPECT_LT(worst(updates(cosmos({}).direction, {9}, 6), updates(adam, {9}, 6)), 1e-12);
  EXPECT_LT(worst(updates(cosmos({.max_rows = 8}).direction, {9, 4}, 6), updates(adam, {9, 4}, 6)), 1e-12);
  EXPECT_GT(worst(updates(cosmos({.released = true}).direction, {9}, 6), updates(adam, {9}, 6)), 1e-2);
}

TEST(Cosmos, WithoutNesterovThereIsStillMomentum) {
  // One gradient, then none: with momentum the second update goes on; the released code's comes to a halt.
  const auto once = [](int64_t t) { return t == 1 ? draw({12, 16}, 1) : at::zeros({12, 16}, at::kDouble); };
  const auto size = [&](bool released) {
    return updates(cosmos({.nesterov = false, .released = released}).direction, {12, 16}, once, 2)[1]
        .norm()
        .item<double>();
  };
  EXPECT_NEAR(size(false), 0.2 * std::sqrt(12.0 * 16), 1e-6);
  EXPECT_EQ(size(true), 0);
}

TEST(Cosmos, RangesAreChecked) {
  EXPECT_THROW(updates(cosmos({.rank = 13}).direction, {12, 16}, 1), UsageError);
  EXPECT_NO_THROW(updates(cosmos({.rank = 12}).direction, {12, 16}, 1));
  EXPECT_THROW(cosmos({.beta1 = 1}), UsageError);
  EXPECT_THROW(cosmos({.rank = 0}), UsageError);
  EXPECT_THROW(cosmos({.lr_ratio = 0}), UsageError);
  EXPECT_THROW(cosmos({.gamma = -1}), UsageError);
  EXPECT_THROW(cosmos({.max_rows = 0}), UsageError);
}

}  // namespace
}  // namespace schatten
