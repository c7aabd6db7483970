// Low-rank optimizers in cases where they must equal something known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/linalg/subspace.h>
#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>

#include <cmath>
#include <set>

namespace schatten {
namespace {

Tensor draw(std::vector<int64_t> shape, int64_t n, at::ScalarType dtype = at::kDouble) {
  return Rng(31).at(n).normal(shape, dtype);
}
double difference(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }
double size_of(const Tensor& a) { return a.norm().item<double>(); }

/// One or more parameters and their optimizer; gradients are drawn by step and position.
struct Trial {
  std::vector<Parameter> parameters;
  std::optional<Optimizer> optimizer;
  int64_t t = 0;

  Trial(const Recipe& recipe, std::vector<std::vector<int64_t>> shapes = {{12, 16}}, at::ScalarType dtype = at::kDouble,
        int blocks = 0) {
    for (auto& shape : shapes) {
      const auto i = static_cast<int64_t>(parameters.size());
      const Tensor w = at::zeros(shape, dtype).requires_grad_(true);
      ParameterInfo info = infer_parameter("w" + std::to_string(i), w, i);
      if (blocks) info.block = static_cast<int>(i), info.blocks = blocks;
      parameters.push_back({info, w});
    }
    optimizer.emplace(parameters, std::vector<Route>{{"any", recipe, 1.0}}, OptimizerOptions{.seed = 5});
  }
  Tensor gradient(size_t i) const {
    const Tensor& w = parameters[i].tensor;
    return draw(w.sizes().vec(), 100 * t + static_cast<int64_t>(i), w.scalar_type());
  }
  void step(const std::function<Tensor(const Tensor&)>& change = {}) {
    ++t;
    for (size_t i = 0; i < parameters.size(); ++i)
      parameters[i].tensor.mutable_grad() = change ? change(gradient(i)) : gradient(i);
    optimizer->step();
  }
  Trial& steps(int count) {
    for (int i = 0; i < count; ++i) step();
    return *this;
  }
  Tensor weights(size_t i = 0) const { return parameters[i].tensor.detach().clone(); }
  Tensor slot(const char* name, size_t i = 0) const { return optimizer->slot(parameters[i].info.name, name); }
};

Recipe of(Stage stage) { return {.name = "custom", .direction = std::move(stage)}; }
/// W after `steps` steps from 0 at rate 1.
Tensor after(const Recipe& recipe, int steps = 6, std::vector<int64_t> shape = {12, 16}) {
  return Trial(recipe, {std::move(shape)}).steps(steps).weights();
}
Tensor after(const Stage& stage, int steps = 6, std::vector<int64_t> shape = {12, 16}) {
  return after(of(stage), steps, std::move(shape));
}

constexpr SubspaceType kOneSided[] = {SubspaceType::std, SubspaceType::reverse_std, SubspaceType::left,
                                      SubspaceType::right};

// --- in_subspace ---

TEST(Subspace, OfFullRankAroundIdentityIsTheGradient) {
  for (const auto& [rows, cols] : {std::pair{12, 16}, std::pair{16, 12}, std::pair{12, 12}}) {
    const Tensor plain = after(identity(), 3, {rows, cols});
    for (const SubspaceType type : kOneSided) {
      const bool left = subspace_shape("test", 12, type, rows, cols).left;
      if ((left ? rows : cols) > 12) continue;  // 12 directions are not all of that side
      const Stage inside = in_subspace({.rank = 12, .refresh_every = 2, .type = type}, identity());
      EXPECT_LT(difference(after(inside, 3, {rows, cols}), plain), 1e-12) << enum_name(type) << rows << "x" << cols;
    }
  }
  const Stage both = in_subspace({.rank = 12, .type = SubspaceType::full}, identity());
  EXPECT_LT(difference(after(both, 3, {12, 12}), after(identity(), 3, {12, 12})), 1e-12);
  const Stage less = in_subspace({.rank = 11}, identity());
  EXPECT_GT(difference(after(less, 3), after(identity(), 3)), 1e-2);
}

TEST(Subspace, KeepsTheLeadingDirectionsOnTheSideThatTheTypeNames) {
  const Tensor g = draw({16, 12}, 100 * 1);
  const auto [u, s, vt] = at::linalg_svd(g, false);
  const Tensor best = at::mm(u.narrow(1, 0, 3) * s.narrow(0, 0, 3), vt.narrow(0, 0, 3));
  for (const SubspaceType type : {SubspaceType::std, SubspaceType::reverse_std, SubspaceType::full})
    EXPECT_LT(difference(-after(in_subspace({.rank = 3, .type = type}, identity()), 1, {16, 12}), best), 1e-12);
  EXPECT_EQ(Trial(of(in_subspace({.rank = 3}, ema({}))), {{16, 12}}).slot("momentum_buffer").sizes(),
            at::IntArrayRef({16, 3}));
  EXPECT_EQ(Trial(of(in_subspace({.rank = 3, .type = SubspaceType::reverse_std}, ema({}))), {{16, 12}})
                .slot("momentum_buffer")
                .sizes(),
            at::IntArrayRef({3, 12}));
}

TEST(Subspace, OfReversedTypeTakesEveryRankOnWideMatrices) {
  for (const double rank : {5.0, 8.0}) {  // 8: the small matrix is square, where the released code fails
    const Stage stage = in_subspace({.rank = rank, .type = SubspaceType::reverse_std}, scale_by_adam({}));
    EXPECT_TRUE(after(stage, 3, {8, 20}).isfinite().all().item<bool>());
  }
}

TEST(Subspace, TransportedMomentumOfFullRankIsPlainMomentum) {
  const Stage plain = ema({.beta = 0.9});
  const auto inside = [&](AtRefresh moments, SubspaceType type) {
    return in_subspace({.rank = 12, .refresh_every = 2, .type = type, .moments = moments}, plain);
  };
  EXPECT_LT(difference(after(inside(AtRefresh::transport, SubspaceType::left)), after(plain)), 1e-12);
  EXPECT_GT(difference(after(inside(AtRefresh::keep, SubspaceType::left)), after(plain)), 1e-2);
  EXPECT_GT(difference(after(inside(AtRefresh::reset, SubspaceType::left)), after(plain)), 1e-2);
  for (const SubspaceType type : {SubspaceType::right, SubspaceType::full})
    EXPECT_LT(difference(after(inside(AtRefresh::transport, type), 6, {12, 12}), after(plain, 6, {12, 12})), 1e-12);
}

TEST(Subspace, ResetMomentsStartLikeTheFirstStep) {
  const Stage stage = in_subspace({.rank = 4, .refresh_every = 3, .moments = AtRefresh::reset}, scale_by_adam({}));
  Trial a(of(stage)), b(of(stage));
  a.steps(3);
  const Tensor before = a.weights();
  a.step();
  b.t = 3;
  b.step();
  EXPECT_LT(difference(a.weights() - before, b.weights()), 1e-12);
}

TEST(Subspace, SignsDoNotDependOnLapack) {
  Trial run(galore({.rank = 4, .refresh_every = 1, .moments = AtRefresh::keep}));
  run.step();
  Tensor previous = run.slot("P").clone();
  for (int i = 0; i < 4; ++i) {
    run.step([&](const Tensor& g) { return i % 2 ? g : -g; });
    EXPECT_TRUE((run.slot("P").mul(previous).sum(0) >= 0).all().item<bool>());
    previous = run.slot("P").clone();
  }
}

TEST(Subspace, ComplementTakesWhatIsLeft) {
  const Value same = identity().to_value();
  EXPECT_LT(difference(after(in_subspace({.rank = 3, .complement = same}, identity())), after(identity())), 1e-12);
  const Value sign_of = sign().to_value();
  const Stage frugal = in_subspace({.rank = 3, .complement = sign_of}, scale_by_adam({}));
  EXPECT_TRUE(after(frugal).isfinite().all().item<bool>());
  EXPECT_EQ(to_json(make_stage(frugal.to_value()).to_value()), to_json(frugal.to_value()));
}

TEST(Subspace, InsideAStageSeesASmallParameterAndNoHeadsOfMixedRows) {
  ParameterInfo info{.name = "wq", .shape = {16, 12}, .projection = Projection::query, .heads = 4};
  const ParameterInfo right = seen_inside(info, subspace_shape("test", 3, SubspaceType::right, 16, 12));
  EXPECT_EQ(right.shape, (std::vector<int64_t>{16, 3}));
  EXPECT_EQ(right.heads, 4);
  const ParameterInfo left = seen_inside(info, subspace_shape("test", 3, SubspaceType::left, 16, 12));
  EXPECT_EQ(left.shape, (std::vector<int64_t>{3, 12}));
  EXPECT_EQ(left.heads, 0);
}

TEST(Subspace, AGaussNewtonProbeIsProjected) {
  const Stage sophia = scale_by_sophia({.probe_every = 2});
  Trial run(of(in_subspace({.rank = 4}, sophia)));
  run.step();
  EXPECT_EQ(size_of(run.slot("hessian")), 0);
  run.optimizer->probe();
  const Tensor r = at::mm(run.slot("P").mT(), run.gradient(0));
  EXPECT_LT(difference(run.slot("hessian"), (1 - 0.99) * r.square()), 1e-12);
  EXPECT_THROW(in_subspace({}, scale_by_sophia({.estimator = SophiaEstimator::hutchinson})), UsageError);
}

struct ReadsW {
  std::string name() const { return "reads_w"; }
  Traits traits() const { return {.reads_param = true}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step&) const { return u.clone(); }
  Value to_value() const { return Value::Table{{"stage", "reads_w"}}; }
};

TEST(Subspace, RefusesWhatCannotBe) {
  EXPECT_THROW(in_subspace({.refresh_every = 0}, identity()), UsageError);
  EXPECT_THROW(in_subspace({.rank = 0}, identity()), UsageError);
  EXPECT_THROW(in_subspace({.rank = NAN}, identity()), UsageError);
  EXPECT_THROW(in_subspace({.rank = 2.5}, identity()), UsageError);
  EXPECT_THROW(in_subspace({.scale = -1}, identity()), UsageError);
  EXPECT_THROW(in_subspace({.complement = "sign"}, identity()), UsageError);
  EXPECT_THROW(Trial(of(in_subspace({.rank = 13}, identity()))), UsageError);
  EXPECT_NO_THROW(Trial(of(in_subspace({.rank = 12}, identity()))));
  EXPECT_THROW(scale_channels_like({.type = SubspaceType::full}, identity()), UsageError);
  EXPECT_THROW(scale_channels_like({.seed = -1}, identity()), UsageError);
  EXPECT_THROW(subspace_and_residual({.type = SubspaceType::full}, identity()), UsageError);
  EXPECT_THROW(subspace_and_residual({.limit = 1}, identity()), UsageError);
  for (const auto& bracket :
       std::vector<std::function<Stage(Stage)>>{[](Stage s) { return in_subspace({}, std::move(s)); },
                                                [](Stage s) { return scale_channels_like({}, std::move(s)); },
                                                [](Stage s) { return subspace_and_residual({}, std::move(s)); },
                                                [](Stage s) { return in_random_subspace({}, std::move(s)); }}) {
    try {
      bracket(chain({ema({}), ReadsW{}}));
      FAIL() << "a stage that reads W went into a subspace";
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find("before or after the bracket"), std::string::npos) << e.what();
    }
  }
}

// --- GaLore ---

TEST(Galore, OfFullRankIsTheInnerOptimizerInItsOwnCoordinates) {
  // Muon does not see rotations: a full basis changes nothing, as long as the momentum stays in one period.
  GaloreOptions o = galore_around("muon");
  o.rank = 12;
  MuonOptions plain{.polar = {.compute = ComputeDtype::float64}};
  EXPECT_LT(difference(after(galore(o)), after(muon(plain))), 1e-9);
  o.rank = 6;
  EXPECT_GT(difference(after(galore(o)), after(muon(plain))), 1e-2);
}

TEST(Galore, TakesAnyStageAndTheMemoryIsAsPlanned) {
  const Recipe recipe = make_recipe(parse_toml(R"(
recipe = "galore"
rank = 4
refresh_every = 2
inner = { chain = [{ stage = "ema" }, { stage = "spectral_power" }, { stage = "cautious" }] }
)"));
  Trial run(recipe, {{12, 16}, {20, 12}}, at::kFloat);
  run.steps(5);
  EXPECT_TRUE(run.weights().isfinite().all().item<bool>());
  EXPECT_GT(size_of(run.weights()), 0);
  const int64_t entries = (12 * 4 + 4 * 16) + (12 * 4 + 20 * 4);  // P and one momentum each
  EXPECT_EQ(run.optimizer->state_bytes(), 4 * entries);
  EXPECT_EQ(run.optimizer->state_bytes(),
            plan_state_bytes({run.parameters[0].info, run.parameters[1].info}, {{"any", recipe, 1.0}}, at::kFloat));
}

TEST(Galore, NamesSetThePublishedDefaults) {
  const auto printed = [](const char* inner) {
    return to_json(to_value(make_recipe(Value::Table{{"recipe", "galore"}, {"inner", inner}})));
  };
  EXPECT_NE(printed("adamw").find("1e-06"), std::string::npos);
  EXPECT_NE(printed("adam_8bit").find("1e-08"), std::string::npos);
  EXPECT_NE(printed("adafactor").find("1e-30"), std::string::npos);
  EXPECT_THROW(printed("adam"), UsageError);
  EXPECT_THROW(galore({.inner = "adam_8bit", .weight_decay = -1}), UsageError);
  GaloreOptions codes = galore_around("adam_8bit");
  codes.moments = AtRefresh::transport;
  EXPECT_NO_THROW(Trial(galore(codes), {{12, 16}}));  // small: full moments, which can turn
  EXPECT_THROW(Trial(galore(codes), {{200, 200}}), UsageError);
}

TEST(Adafactor, OfAnOuterProductIsItsSign) {
  Trial run(of(scale_by_adafactor({})));
  const Tensor a = draw({12, 1}, 1), b = draw({1, 16}, 2);
  run.step([&](const Tensor&) { return at::mm(a, b); });
  EXPECT_LT(difference(-run.weights(), at::mm(a, b).sign()), 1e-9);
}

TEST(Adafactor, AveragesSteps) {
  const auto moved = [](double beta1, const std::vector<double>& rates) {
    Trial run(of(scale_by_adafactor({.beta1 = beta1})));
    for (const double lr : rates) {
      run.parameters[0].tensor.mutable_grad() = at::ones({12, 16}, at::kDouble);
      run.optimizer->step(lr);
    }
    return -run.weights()[0][0].item<double>();
  };
  EXPECT_NEAR(moved(0, {1, 0.5}), 1.5, 1e-12);
  // M = 0.5 * 1, then 0.5 * 0.5 + 0.5 * 0.5
  EXPECT_NEAR(moved(0.5, {1, 0.5}), 0.5 + 0.5, 1e-12);
  EXPECT_NEAR(moved(0.5, {0, 1}), 0.5, 1e-12);
  EXPECT_THROW(scale_by_adafactor({.beta1 = 1}), UsageError);
  EXPECT_THROW(scale_by_adafactor({.decay_rate = 0.8}), UsageError);
}

TEST(Adam8bit, IsCloseToFullMomentsAtAQuarterOfTheMemory) {
  const Tensor decades = at::pow(10, at::arange(64, at::kFloat) / -10).unsqueeze(1);  // each block has its own size
  const auto run = [&](Stage stage) {
    Trial r(of(std::move(stage)), {{64, 80}}, at::kFloat);
    for (int i = 0; i < 20; ++i) r.step([&](const Tensor& g) { return g * decades; });
    return std::pair{r.weights(), r.optimizer->state_bytes()};
  };
  const auto [full, full_bytes] = run(scale_by_adam({.eps = 1e-10}));
  const auto [codes, code_bytes] = run(scale_by_adam_8bit({.eps = 1e-10}));
  const auto [off, off_bytes] = run(scale_by_adam_8bit({.eps = 1e-10, .smallest = 5121}));
  EXPECT_LT(size_of(off - full), 1e-5 * size_of(full));
  EXPECT_EQ(off_bytes, full_bytes);
  EXPECT_LT(size_of(codes - full), 0.05 * size_of(full));
  EXPECT_GT(size_of(codes - full), 1e-3 * size_of(full));
  EXPECT_EQ(code_bytes, 2 * 64 * 80 + 2 * 4 * (64 * 80 / 256));
}

TEST(Adam8bit, ValuesOfTheMap) {
  for (const bool with_sign : {true, false}) {
    const std::vector<float> map = dynamic_map_8bit(with_sign);
    EXPECT_EQ(std::set<float>(map.begin(), map.end()).size(), 256U);
    EXPECT_TRUE(std::is_sorted(map.begin(), map.end()));
    EXPECT_EQ(map.back(), 1);
    EXPECT_NEAR(map[254], with_sign ? 0.99296875 : 0.996484375, 1e-7);
  }
  EXPECT_EQ(dynamic_map_8bit(true)[127], 0);
  EXPECT_NEAR(dynamic_map_8bit(true)[128], 5.5e-7, 1e-12);
  EXPECT_NEAR(dynamic_map_8bit(true)[0], -0.99296875, 1e-7);
  EXPECT_EQ(dynamic_map_8bit(false)[0], 0);
  EXPECT_NEAR(dynamic_map_8bit(false)[1], 3.25e-7, 1e-12);
}

TEST(Adam8bit, BlocksThatEndInTheMiddleAndZerosKeepTheirPlaces) {
  Trial run(of(scale_by_adam_8bit({.smallest = 0})), {{13, 37}}, at::kFloat);
  run.step([](const Tensor& g) { return at::where(g > 0, g, at::zeros_like(g)); });
  const Tensor g = run.gradient(0);
  EXPECT_TRUE(at::equal(run.weights() < 0, g > 0));
  run.step([](const Tensor& g2) { return at::zeros_like(g2); });
  EXPECT_TRUE(run.weights().isfinite().all().item<bool>());
  EXPECT_TRUE(at::equal(run.weights() < 0, g > 0));
}

// --- APOLLO ---

TEST(Apollo, StateIsWhatThePaperPromises) {
  const auto entries = [](const Recipe& recipe, int64_t m, int64_t n) {
    Trial run(recipe, {{m, n}}, at::kFloat);
    int64_t count = -1;  // the step counter
    for (const auto& [name, tensor] : run.optimizer->state().tensors) count += tensor.numel();
    return count;
  };
  EXPECT_EQ(entries(apollo({.rank = 4}), 12, 16), 2 * 4 * 16 + 2);
  EXPECT_EQ(entries(apollo({.rank = 4}), 16, 12), 2 * 4 * 16 + 2);
  EXPECT_EQ(entries(apollo_mini({}), 12, 16), 2 * 16 + 2);
  EXPECT_EQ(entries(apollo({.rank = 4, .projection = ApolloProjection::svd, .limit = 0}), 12, 16), 2 * 4 * 16 + 4 * 12);
}

TEST(Apollo, AFactorInsideIsAFactorOutsideWhateverTheProjection) {
  const Tensor thrice = after(scale(3));
  for (const ApolloProjection projection : {ApolloProjection::random, ApolloProjection::svd})
    for (const ChannelScale type : {ChannelScale::channel, ChannelScale::tensor})
      for (const SubspaceType side : kOneSided) {
        const Stage stage = scale_channels_like(
            {.rank = 2, .refresh_every = 2, .projection = projection, .type = side, .scale_type = type}, scale(3));
        EXPECT_LT(difference(after(stage), thrice), 1e-5);
      }
}

TEST(Apollo, ChannelsAreScaledAsAdamScalesThem) {
  // With the whole space inside, a channel's factor is its Adam norm over its own norm, in rotated coordinates.
  Trial run(of(scale_channels_like({.rank = 12, .projection = ApolloProjection::svd}, scale_by_adam({.eps = 1e-6}))));
  run.step();
  const Tensor g = run.gradient(0), r = at::mm(run.slot("P").mT(), g);
  const Tensor n = r / (r.abs() + 1e-6);
  EXPECT_LT(difference(-run.weights(), g * (n.norm(2, 0, true) / g.norm(2, 0, true))), 1e-7);
}

TEST(Apollo, SeedsArePositionsAndTheChainSurvivesResuming) {
  const ApolloOptions o{.rank = 3, .refresh_every = 2};
  const std::vector<std::vector<int64_t>> shapes{{12, 16}, {12, 16}};
  Trial both(apollo(o), shapes);
  EXPECT_EQ(both.slot("seed", 1).item<int64_t>(), 0);
  both.steps(3);
  EXPECT_EQ(both.slot("seed", 0).item<int64_t>(), next_seed(1));
  EXPECT_EQ(both.slot("seed", 1).item<int64_t>(), next_seed(2));
  ApolloOptions second = o;
  second.seed = 2;
  Trial as_second(apollo(second), shapes);
  as_second.steps(3);
  EXPECT_TRUE(at::equal(both.weights(1), as_second.weights(1)));
  EXPECT_FALSE(at::equal(both.weights(0), as_second.weights(0)));

  Trial resumed(apollo(o), shapes);
  for (size_t i = 0; i < 2; ++i) resumed.parameters[i].tensor.detach().copy_(both.weights(i));
  resumed.optimizer->load_state(both.optimizer->state());
  resumed.t = 3;
  resumed.steps(4);
  both.steps(4);
  EXPECT_TRUE(at::equal(both.weights(1), resumed.weights(1)));
}

TEST(Limiter, NothingGrowsByMoreThanOnePerCent) {
  Trial run(of(limit_norm_growth({})));
  double before = 0;
  Tensor w = run.weights();
  for (int i = 0; i < 8; ++i) {
    run.step([&](const Tensor& g) { return g * std::pow(i == 5 ? 0.2 : 3.0, i); });
    const double moved = size_of(run.weights() - w);
    EXPECT_LE(moved, i == 0 ? moved : 1.01 * (before + 1e-8) * (1 + 1e-9));
    before = moved;
    w = run.weights();
  }
}

TEST(Limiter, AZeroFirstGradientFreezesOnlyTheReleasedOne) {
  const auto moved = [](bool released) {
    Trial run(apollo({.limiter_released = released}));
    run.step([](const Tensor& g) { return at::zeros_like(g); });
    EXPECT_EQ(size_of(run.weights()), 0);
    return size_of(run.steps(5).weights());
  };
  EXPECT_GT(moved(false), 1);
  EXPECT_LT(moved(true), 1e-6);
  EXPECT_TRUE(at::equal(after(apollo({.limiter_released = false})), after(apollo({.limiter_released = true}))));
  EXPECT_THROW(limit_norm_growth({.limit = 1}), UsageError);
  EXPECT_THROW(limit_norm_growth({.limit = INFINITY}), UsageError);
  EXPECT_THROW(apollo({.scale = 0}), UsageError);
}

// --- Fira ---

TEST(Fira, OfFullRankIsGaLoreOfFullRank) {
  const auto galore_of = [](double rank) { return galore({.rank = rank, .refresh_every = 2, .scale = 0.25}); };
  const auto fira_of = [](double rank, bool released) {
    return fira({.subspace = {.rank = rank, .refresh_every = 2, .residual_released = released}});
  };
  EXPECT_LT(difference(after(fira_of(12, false)), after(galore_of(12))), 1e-9);
  EXPECT_GT(difference(after(fira_of(12, true)), after(galore_of(12))), 1e-2);  // 3/4 of the subspace stays
  EXPECT_GT(difference(after(fira_of(3, false)), after(galore_of(3))), 1e-2);
}

TEST(Fira, AddsTheRestAtTheSizeOfTheSubspace) {
  Trial run(fira({.subspace = {.rank = 3, .scale = 0}, .eps = 0}));
  run.step();
  const Tensor g = run.gradient(0), p = run.slot("P"), r = at::mm(p.mT(), g);
  const Tensor rest = g - at::mm(p, r);
  // At the first step Adam's entries are 1 (after the bias corrections), so that a column's norm is sqrt(3).
  EXPECT_LT(difference(-run.weights(), rest * (std::sqrt(3.0) / r.norm(2, 0, true))), 1e-6);
}

TEST(Fira, ItsReleasedLimiterFreezes) {
  const auto moved = [](bool released) {
    Trial run(fira({.subspace = {.rank = 3, .scale = 0, .limiter_released = released}}));
    run.step([](const Tensor& g) { return at::zeros_like(g); });
    return size_of(run.steps(5).weights());
  };
  EXPECT_GT(moved(false), 1);
  EXPECT_LT(moved(true), 1e-6);
}

// --- GUM ---

GumOptions exact_gum(std::vector<int> branches) {
  return {.rank = 4,
          .period = 2,
          .full_blocks = 0,
          .branches = std::move(branches),
          .polar = {.schedule = "exact"},
          .shape = ShapeScale::none};
}

TEST(Gum, OfFullRankIsMuon) {
  GumOptions o{.rank = 12, .period = 100, .branches = {1}};
  const MuonOptions plain{.momentum_form = MomentumForm::heavy_ball, .nesterov = false, .shape = ShapeScale::moonlight};
  EXPECT_LT(difference(after(gum(o)), after(muon(plain))), 1e-9);
  EXPECT_LT(difference(after(gum(o), 6, {16, 12}), after(muon(plain), 6, {16, 12})), 1e-9);
  o.rank = 4;
  EXPECT_GT(difference(after(gum(o)), after(muon(plain))), 1e-2);
}

TEST(Gum, FactorsBeforeOrthogonalisationDoNothing) {
  const auto with = [](BranchWeights weights) {
    GumOptions o = exact_gum({0, 1, 0});
    o.weights = weights;
    return after(gum(o));
  };
  EXPECT_LT(difference(with(BranchWeights::pre), with(BranchWeights::none)), 1e-9);
  EXPECT_GT(difference(with(BranchWeights::post), with(BranchWeights::none)), 1e-2);
}

TEST(Gum, MeanOverBranchesWithWeightsBehindIsThePolarFactor) {
  const Tensor polar = -after(orthogonalize({.schedule = "exact"}), 1);
  GumOptions low = exact_gum({0}), full = exact_gum({1});
  low.weights = full.weights = BranchWeights::post;
  const double q = low.probability;
  const Tensor mean = (1 - q) * after(gum(low), 1) + q * after(gum(full), 1);
  EXPECT_LT(difference(-mean, polar), 1e-9);
  GumOptions both = exact_gum({});
  both.variant = GumVariant::complement;
  EXPECT_LT(difference(-after(gum(both), 1), polar), 1e-9);
  EXPECT_GT(difference(-after(gum(exact_gum({0})), 1), polar), 1e-2);
}

TEST(Gum, TheBasisOfTheSubspaceDoesNotMatter) {
  const Tensor turn = qr_q(draw({4, 4}, 7));
  const auto with_turn = [&](const Stage& inner) {
    Trial plain(of(in_random_subspace({.rank = 4, .period = 3, .branches = {0, 1, 0}}, inner)));
    Trial turned(of(in_random_subspace({.rank = 4, .period = 3, .branches = {0, 1, 0}}, inner)));
    plain.step();
    turned.step();
    for (const char* slot : {"momentum_buffer", "exp_avg"})
      if (Tensor moment = turned.slot(slot); moment.defined()) moment.copy_(at::mm(turn.mT(), moment));
    turned.slot("P").copy_(at::mm(turned.slot("P"), turn));
    return difference(plain.steps(7).weights(), turned.steps(7).weights());
  };
  EXPECT_LT(with_turn(chain({heavy_ball({}), orthogonalize({})})), 1e-10);
  EXPECT_GT(with_turn(scale_by_adam({})), 1e-3);
}

TEST(Gum, TheFullBranchStaysOutOfTheSubspace) {
  GumOptions o{.rank = 16, .full_blocks = 0, .branches = {1}};
  Trial run(gum(o), {{64, 96}}, at::kFloat);
  const auto [u, s, vt] = at::linalg_svd(draw({64, 96}, 1), false);
  const Tensor decaying = at::arange(1, 65, at::kDouble).pow(-1.5);
  run.step([&](const Tensor&) { return at::mm(u * decaying, vt).to(at::kFloat); });
  EXPECT_GT(size_of(run.weights()), 1);
  EXPECT_LT(size_of(at::mm(run.slot("P").mT(), run.weights())), 5e-3 * size_of(run.weights()));
}

TEST(Gum, ExactlySoManyBlocksArePickedAndAllOfThemNowAndThen) {
  const InRandomSubspace o{.full_blocks = 2};
  std::set<int> picked;
  for (int64_t period = 0; period < 40; ++period) {
    int full = 0;
    for (int block = 0; block < 8; ++block) {
      const ParameterInfo wq{.name = "wq", .index = 10 * block, .shape = {8, 8}, .block = block, .blocks = 8};
      ParameterInfo wo = wq;
      wo.index = 10 * block + 3;
      const Branch one = drawn_branch(o, wq, Rng(3), period);
      EXPECT_EQ(one.full, drawn_branch(o, wo, Rng(3), period).full);  // the matrices of a block go together
      EXPECT_EQ(one.probability, 0.25);
      if (one.full) ++full, picked.insert(block);
    }
    EXPECT_EQ(full, 2);
  }
  EXPECT_EQ(picked.size(), 8U);
  int alone = 0;
  for (int64_t i = 0; i < 4000; ++i)
    alone += drawn_branch({.probability = 0.125}, {.name = "w", .index = i, .shape = {8, 8}}, Rng(3), 1).full;
  EXPECT_NEAR(alone / 4000.0, 0.125, 0.02);
  const ParameterInfo only{.name = "w", .shape = {8, 8}, .block = 0, .blocks = 1};
  EXPECT_EQ(drawn_branch({}, only, Rng(3), 0).probability, 0.25);  // one block: drawn as if outside
}

TEST(Gum, MemoryIsAsPlannedAndTheSameInEveryPeriod) {
  GumOptions o{.rank = 4, .period = 2, .full_blocks = 1};
  Trial run(gum(o), {{12, 16}, {12, 16}, {12, 16}, {12, 16}}, at::kFloat, 4);
  std::vector<ParameterInfo> infos;
  for (const Parameter& p : run.parameters) infos.push_back(p.info);
  const int64_t bytes = 4 * (4 * 12 * 4 + 3 * 4 * 16 + 12 * 16);
  EXPECT_EQ(plan_state_bytes(infos, {{"any", gum(o), 1.0}}, at::kFloat, {.seed = 5}), bytes);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(run.optimizer->state_bytes(), bytes) << i;
    run.step();
  }
}

TEST(Gum, ResumesInAPeriodOfAnotherBranch) {
  for (const AtRefresh moments : {AtRefresh::reset, AtRefresh::transport, AtRefresh::keep}) {
    GumOptions o{.rank = 4, .period = 2, .full_blocks = 0, .branches = {0, 1, 0, 0, 1, 1}, .moments = moments};
    Trial straight(gum(o)), resumed(gum(o));
    straight.steps(3);  // the first step of a full period
    const TensorFile saved = straight.optimizer->state();
    resumed.parameters[0].tensor.detach().copy_(straight.weights());
    resumed.optimizer->load_state(saved);
    resumed.t = 3;
    EXPECT_TRUE(at::equal(straight.steps(9).weights(), resumed.steps(9).weights()));
  }
}

TEST(Gum, TransportGoesOnWhereTheBranchStays) {
  const auto of_momentum = [](AtRefresh moments, std::vector<int> branches) {
    return in_random_subspace(
        {.rank = 4, .period = 2, .branches = std::move(branches), .weights = BranchWeights::none, .moments = moments},
        ema({.beta = 0.9}));
  };
  Trial run(of(of_momentum(AtRefresh::transport, {0, 0, 1, 1})));
  run.steps(2);
  const Tensor p = run.slot("P").clone(), m = run.slot("momentum_buffer").clone();
  run.step();
  const Tensor now = run.slot("P"), r = at::mm(now.mT(), run.gradient(0));
  const Tensor expected = 0.9 * at::mm(now.mT(), at::mm(p, m)) + 0.1 * r;
  EXPECT_LT(difference(run.slot("momentum_buffer"), expected), 1e-12);
  run.steps(2);  // the branch changes: from 0 again
  EXPECT_LT(difference(run.slot("momentum_buffer"),
                       0.1 * (run.gradient(0) - at::mm(run.slot("P"), at::mm(run.slot("P").mT(), run.gradient(0))))),
            1e-12);
}

TEST(Gum, RefusesWhatCannotBe) {
  for (const double q : {0.0, 1.0, -0.5, 1.5, static_cast<double>(NAN)})
    EXPECT_THROW(gum({.probability = q}), UsageError) << q;
  EXPECT_THROW(gum({.period = 0}), UsageError);
  EXPECT_THROW(gum({.full_blocks = 1.5}), UsageError);
  EXPECT_THROW(gum({.full_blocks = -1}), UsageError);
  EXPECT_THROW(gum({.branches = {2}}), UsageError);
  const Stage codes = in_random_subspace({.moments = AtRefresh::transport}, scale_by_adam_8bit({.smallest = 0}));
  EXPECT_THROW(Trial(of(codes), {{12, 16}}), UsageError);
  EXPECT_THROW(gum({.momentum = 1}), UsageError);
  EXPECT_THROW(Trial(gum({.full_blocks = 2}), {{12, 16}, {12, 16}}, at::kDouble, 2), UsageError);
  EXPECT_THROW(Trial(gum({.rank = 13})), UsageError);
}

/// 1/2 |A X|^2 + <B, X> on the first n - r rows, with gradient noise of rank r on the others: the subspace of GaLore is
/// all noise, and nothing of the signal gets through.
struct NoisyTail {
  static constexpr int64_t n = 20, r = 12, k = n - r;
  Tensor x = at::zeros({n, n}, at::kDouble), d = draw({k, k}, 900);

  NoisyTail() {
    x.narrow(0, 0, k).narrow(1, 0, k).copy_(at::eye(k, at::kDouble) / 2);
    x.narrow(0, k, r).copy_(draw({r, n}, 901));
  }
  static Tensor corner(const Tensor& t) { return t.narrow(0, 0, k).narrow(1, 0, k); }
  /// f - min f.
  double gap() const {
    Tensor top = x.detach().narrow(0, 0, k).clone();
    corner(top).add_(d);
    return 0.5 * top.square().sum().item<double>();
  }
  Tensor gradient(int64_t t) const {
    Tensor g = at::zeros({n, n}, at::kDouble);
    g.narrow(0, 0, k).copy_(x.detach().narrow(0, 0, k));
    corner(g).add_(d);
    const double sign = Rng(17).uniform(static_cast<uint64_t>(t)) < 0.5 ? -1 : 1;
    g.narrow(0, k, r).narrow(1, k, r).diagonal().add_(100 * sign);
    return g;
  }
};

/// Gap after 4000 steps at a rate that falls linearly to 0, as a share of the gap at the start.
double share_left(const Recipe& recipe) {
  NoisyTail problem;
  problem.x.requires_grad_(true);
  const double start = problem.gap();
  Optimizer opt(std::vector<Parameter>{{infer_parameter("x", problem.x, 0), problem.x}}, {{"any", recipe, 0.03}});
  constexpr int kSteps = 4000;
  for (int t = 0; t < kSteps; ++t) {
    problem.x.mutable_grad() = problem.gradient(t);
    opt.step(1 - static_cast<double>(t) / kSteps);
  }
  return problem.gap() / start;
}

TEST(Gum, LearnsWhereGaLoreSeesNothingButNoise) {
  const Stage inner = chain({heavy_ball({.momentum = 0.95}), orthogonalize({})});
  const Recipe galore_muon =
      galore({.inner = inner.to_value(), .rank = 12, .refresh_every = 50, .scale = 1, .moments = AtRefresh::reset});
  GumOptions o{.rank = 12, .period = 50, .full_blocks = 0, .probability = 0.5, .shape = ShapeScale::none};
  EXPECT_NEAR(share_left(galore_muon), 1, 0.01);
  EXPECT_LT(share_left(gum(o)), 1e-3);
  o.variant = GumVariant::complement;
  EXPECT_LT(share_left(gum(o)), 1e-6);
}

}  // namespace
}  // namespace schatten
