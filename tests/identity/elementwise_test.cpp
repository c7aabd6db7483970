// Element-wise recipes in settings where they must equal something known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/papers.h>
#include <schatten/stages/registry.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/rmsprop.h>

#include <cmath>
#include <limits>

namespace schatten {
namespace {

Tensor draw(const std::vector<int64_t>& shape, int64_t n) { return Rng(31).at(n).normal(shape, at::kDouble); }

using Gradient = std::function<Tensor(const std::vector<int64_t>& shape, int64_t step)>;

/// One parameter and its optimizer.
struct Trained {
  Tensor w;
  Optimizer optimizer;

  Trained(const Recipe& recipe, ParameterInfo info, double lr = 0.01)
      : w(draw(info.shape, 1000).requires_grad_(true)),
        optimizer(std::vector<Parameter>{{std::move(info), w}}, {{"any", recipe, lr}}) {}
  void step(const Tensor& gradient) {
    w.mutable_grad() = gradient.clone();
    optimizer.step();
  }
  void probe(const Tensor& gradient) {
    w.mutable_grad() = gradient.clone();
    optimizer.probe();
  }
};

ParameterInfo matrix(int64_t rows = 12, int64_t cols = 16) { return {.name = "w", .shape = {rows, cols}}; }
ParameterInfo vector(Role role, int64_t n = 16) { return {.name = "w", .role = role, .shape = {n}}; }

/// The weights after a few steps.
Tensor weights(const Recipe& recipe, const ParameterInfo& info, const Gradient& gradient = draw, double lr = 0.01) {
  Trained run(recipe, info, lr);
  for (int64_t t = 1; t <= 6; ++t) run.step(gradient(info.shape, t));
  return run.w.detach();
}

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }
Recipe chain_of(std::vector<Stage> stages) { return {.name = "custom", .direction = chain(std::move(stages))}; }

/// The same gradient again and again: momentum always agrees with it.
Tensor steady(const std::vector<int64_t>& shape, int64_t) { return draw(shape, 1); }

constexpr double kExact = 1e-13, kSeen = 1e-5;

// --- Adagrad ---

double against_torch_adagrad(const AdagradOptions& o) {
  Trained ours(adagrad(o), matrix());
  Tensor theirs = ours.w.detach().clone().requires_grad_(true);
  torch::optim::Adagrad adagrad(
      {theirs},
      torch::optim::AdagradOptions(0.01).lr_decay(0.1).weight_decay(0.2).initial_accumulator_value(0.5).eps(1e-6));
  for (int64_t t = 1; t <= 6; ++t) {
    const Tensor gradient = draw({12, 16}, t);
    theirs.mutable_grad() = gradient.clone();
    adagrad.step();
    ours.step(gradient);
  }
  return distance(ours.w, theirs);
}

TEST(Elementwise, AdagradEqualsTorch) {
  const AdagradOptions o{.eps = 1e-6, .initial_accumulator_value = 0.5, .lr_decay = 0.1, .weight_decay = 0.2};
  EXPECT_LT(against_torch_adagrad(o), kExact);
  AdagradOptions broken = o;
  broken.lr_decay = 0.11;
  EXPECT_GT(against_torch_adagrad(broken), kSeen);
  broken = o;
  broken.initial_accumulator_value = 0;
  EXPECT_GT(against_torch_adagrad(broken), kSeen);
}

// --- Adam without a first moment ---

TEST(Elementwise, AdamWithoutAFirstMomentIsRmspropAndKeepsOneBuffer) {
  const auto recipe = [](double beta2) {
    return Recipe{.name = "custom",
                  .direction = scale_by_adam({.beta1 = 0, .beta2 = beta2, .eps = 1e-6, .form = AdamForm::uncorrected})};
  };
  const auto against_torch = [&](double beta2) {
    Trained ours(recipe(beta2), matrix());
    Tensor theirs = ours.w.detach().clone().requires_grad_(true);
    torch::optim::RMSprop rmsprop({theirs}, torch::optim::RMSpropOptions(0.01).alpha(0.97).eps(1e-6));
    for (int64_t t = 1; t <= 6; ++t) {
      const Tensor gradient = draw({12, 16}, t);
      theirs.mutable_grad() = gradient.clone();
      rmsprop.step();
      ours.step(gradient);
    }
    return distance(ours.w, theirs);
  };
  EXPECT_LT(against_torch(0.97), kExact);
  EXPECT_GT(against_torch(0.96), kSeen);
  const std::vector<ParameterInfo> one{{.name = "w", .shape = {12, 16}}};
  EXPECT_EQ(plan_state_bytes(one, {{"any", recipe(0.9), 1}}, at::kFloat), 12 * 16 * 4);
}

// --- Lion and signs ---

TEST(Elementwise, LionsFirstStepIsTheSign) {
  Trained run(lion({}), matrix(), 1);
  const Tensor before = run.w.detach().clone();
  Tensor gradient = draw({12, 16}, 1);
  gradient[0].zero_();
  run.step(gradient);
  EXPECT_LT(distance(before - run.w, gradient.sign()), kExact);
}

TEST(Elementwise, LionStepsAlongOneMixtureAndKeepsAnother) {
  Trained run(chain_of({lion_momentum({.beta1 = 0.5, .beta2 = 0.75})}), matrix(), 1);
  const Tensor first = draw({12, 16}, 1), second = draw({12, 16}, 2);
  run.step(first);
  const Tensor before = run.w.detach().clone(), kept = first * 0.25;
  run.step(second);
  EXPECT_LT(distance(before - run.w, kept * 0.5 + second * 0.5), kExact);
  EXPECT_LT(distance(run.optimizer.slot("w", "exp_avg"), kept * 0.75 + second * 0.25), kExact);
}

TEST(Elementwise, LionOfOneRateIsTheSignOfAnAverage) {
  const Recipe average = chain_of({ema({.beta = 0.9}), sign()});
  EXPECT_TRUE(at::equal(weights(lion({.beta1 = 0.9, .beta2 = 0.9}), matrix()), weights(average, matrix())));
  EXPECT_GT(distance(weights(lion({.beta1 = 0.9, .beta2 = 0.99}), matrix()), weights(average, matrix())), kSeen);
}

TEST(Elementwise, SignMuonIsTheSignOfNesterovMomentum) {
  const Recipe plain = chain_of({sign()});
  EXPECT_TRUE(at::equal(weights(sign_muon({.momentum = 0}), matrix()), weights(plain, matrix())));
  // (1 - mu) times the sum is the average, and a sign does not see a factor.
  const Recipe average = chain_of({ema({.beta = 0.95, .nesterov = true}), sign()});
  EXPECT_TRUE(at::equal(weights(sign_muon({}), matrix()), weights(average, matrix())));
  EXPECT_GT(distance(weights(sign_muon({.nesterov = false}), matrix()), weights(average, matrix())), kSeen);
}

// --- AdEMAMix ---

TEST(Elementwise, AdemamixWithoutItsSlowAverageIsAdamw) {
  const Recipe ours = ademamix({.alpha = 0, .weight_decay = 0.1});
  AdamwOptions adam;
  adam.weight_decay = 0.1;
  EXPECT_LT(distance(weights(ours, matrix()), weights(adamw(adam), matrix())), kExact);
  EXPECT_GT(distance(weights(ademamix({.alpha = 2, .weight_decay = 0.1}), matrix()), weights(adamw(adam), matrix())),
            kSeen);
}

TEST(Elementwise, AdemamixWarmsUpToWhatItIsWithout) {
  const ParameterInfo info = matrix();
  Trained warmed(ademamix({.alpha_warmup = 4, .beta3_warmup = 4}), info), plain(ademamix({}), info);
  for (int64_t t = 1; t <= 4; ++t) {
    warmed.step(draw(info.shape, t));
    plain.step(draw(info.shape, t));
  }
  EXPECT_GT(distance(warmed.w, plain.w), kSeen);
  // From the same state on they are the same.
  warmed.optimizer.load_state(plain.optimizer.state());
  {
    const at::NoGradGuard no_grad;
    warmed.w.copy_(plain.w);
  }
  for (int64_t t = 5; t <= 8; ++t) {
    warmed.step(draw(info.shape, t));
    plain.step(draw(info.shape, t));
  }
  EXPECT_TRUE(at::equal(warmed.w, plain.w));
}

TEST(Elementwise, AdemamixWarmsUpInHalfLives) {
  // b1 forgets half in 3 steps, b3 in 9: half-way it takes 6.
  const auto forgets_half_in = [](double steps) { return std::pow(0.5, 1 / steps); };
  Trained run(ademamix({.beta1 = forgets_half_in(3), .beta3 = forgets_half_in(9), .beta3_warmup = 2}), matrix());
  run.step(at::ones({12, 16}, at::kDouble));
  const double slow = run.optimizer.slot("w", "exp_avg_slow").flatten()[0].item<double>();
  EXPECT_NEAR(slow, 1 - forgets_half_in(6), 1e-6);
}

// --- MARS ---

MarsOptions uncorrected(MarsForm form) {
  MarsOptions o;
  o.form = form;
  o.gamma = 0;
  o.max_norm = 0;
  o.polar.compute = ComputeDtype::float64;
  return o;
}

TEST(Elementwise, MarsWithoutCorrectionIsWhatItCorrects) {
  MarsOptions o = uncorrected(MarsForm::adamw);
  o.weight_decay = 0.1;
  const AdamwOptions adam{.beta1 = o.beta1, .beta2 = o.beta2, .weight_decay = 0.1};
  EXPECT_LT(distance(weights(mars(o), matrix()), weights(adamw(adam), matrix())), kExact);
  o.gamma = 0.025;
  EXPECT_GT(distance(weights(mars(o), matrix()), weights(adamw(adam), matrix())), kSeen);

  const Recipe signs = chain_of({ema({.beta = 0.95}), sign()});
  EXPECT_TRUE(at::equal(weights(mars(uncorrected(MarsForm::lion)), matrix()), weights(signs, matrix())));

  o = uncorrected(MarsForm::shampoo);
  MuonOptions m;
  m.nesterov = false;
  m.momentum_form = MomentumForm::heavy_ball;
  m.polar = o.polar;
  EXPECT_TRUE(at::equal(weights(mars(o), matrix()), weights(muon(m), matrix())));
}

TEST(Elementwise, MarsCorrectsByTheGradientsChange) {
  MarsOptions o;
  o.form = MarsForm::lion;  // keeps the average itself
  o.beta1 = 0.5;
  o.gamma = 0.3;
  o.max_norm = 0;
  Trained run(mars(o), matrix());
  const Tensor first = draw({12, 16}, 1), second = draw({12, 16}, 2);
  run.step(first);
  run.step(second);
  const Tensor expected = (first * 1.3) * 0.25 + (second + (second - first) * 0.3) * 0.5;
  EXPECT_LT(distance(run.optimizer.slot("w", "momentum_buffer"), expected), kExact);
}

TEST(Elementwise, MarsClipsWhatIsLongerThanOne) {
  MarsOptions o;
  o.form = MarsForm::lion;
  const auto kept = [&](double size) {
    Trained run(mars(o), matrix());
    run.step(draw({12, 16}, 1) * size);
    return run.optimizer.slot("w", "momentum_buffer").norm().item<double>() / (1 - o.beta1);
  };
  EXPECT_NEAR(kept(1), 1, kExact);
  const double corrected = draw({12, 16}, 1).norm().item<double>() * 1e-3 * (1 + 0.025 * 0.95 / 0.05);
  EXPECT_NEAR(kept(1e-3), corrected, kExact);
  o.max_norm = 0;
  EXPECT_NEAR(kept(1), 1e3 * corrected, 1e-10);
}

TEST(Elementwise, MarsClipsWhatOverflowsWhenSquared) {
  const ParameterInfo info = matrix();
  const Stage stage = variance_reduction({});
  State state(stage.state(bucket_of(info, at::kFloat)), bucket_of(info, at::kFloat));
  const Tensor huge = draw(info.shape, 1).to(at::kFloat) * 1e30;
  EXPECT_NEAR(stage.apply(huge, state, {.parameter = info, .grad = huge}).norm().item<double>(), 1, 1e-6);
}

TEST(Elementwise, MarsPutsVectorsOnAdamwAtTheirOwnRate) {
  MarsOptions o;
  o.rate_1d = 0.3;
  o.weight_decay = 0.1;
  const AdamwOptions adam{.beta1 = 0.9, .beta2 = 0.95, .weight_decay = 0.1};
  for (const MarsForm form : {MarsForm::adamw, MarsForm::lion, MarsForm::shampoo}) {
    o.form = form;
    const Tensor ours = weights(mars(o), vector(Role::gain));
    EXPECT_LT(distance(ours, weights(adamw(adam), vector(Role::gain), draw, 0.003)), kExact);
  }
  o.form = MarsForm::shampoo;
  o.optimize_1d = true;
  MarsOptions as_adamw = o;
  as_adamw.form = MarsForm::adamw;
  EXPECT_TRUE(at::equal(weights(mars(o), vector(Role::gain)), weights(mars(as_adamw), vector(Role::gain))));
  EXPECT_GT(distance(weights(mars(o), vector(Role::gain)), weights(adamw(adam), vector(Role::gain), draw, 0.003)),
            kSeen);
}

TEST(Elementwise, MarsTakesFiltersAsMatricesUnlessReleased) {
  MarsOptions o;
  const ParameterInfo filter{.name = "w", .role = Role::conv, .shape = {4, 3, 2, 2}};
  const Tensor as_matrix = weights(mars(o), filter);
  o.conv_released = true;
  const AdamwOptions adam{.beta1 = 0.9, .beta2 = 0.95, .weight_decay = 0};
  EXPECT_LT(distance(weights(mars(o), filter), weights(adamw(adam), filter)), kExact);
  EXPECT_GT(distance(as_matrix, weights(adamw(adam), filter)), kSeen);
}

// --- Sophia ---

SophiaOptions small_sophia() {
  SophiaOptions o;
  o.scaling.bs = 64;
  o.weight_decay = 0;
  return o;
}

TEST(Elementwise, SophiaThatSawNoHessianIsTheSignOfMomentum) {
  const Recipe signs = chain_of({ema({.beta = 0.965}), sign()});
  EXPECT_TRUE(at::equal(weights(sophia(small_sophia()), matrix()), weights(signs, matrix())));
}

TEST(Elementwise, SophiaDividesByWhatTheProbesSaid) {
  SophiaOptions o = small_sophia();
  for (const SophiaEstimator estimator : {SophiaEstimator::gauss_newton, SophiaEstimator::hutchinson}) {
    o.scaling.estimator = estimator;
    const bool squares = estimator == SophiaEstimator::gauss_newton;
    Trained run(sophia(o), matrix(), 1);
    const Tensor probe = draw({12, 16}, 50) * 1e3, gradient = draw({12, 16}, 1);
    run.probe(probe);
    run.probe(probe);
    const Tensor before = run.w.detach().clone();
    run.step(gradient);
    const Tensor h = (squares ? probe.square() * 64 : probe.clamp_min(0)) * (1 - 0.99 * 0.99);
    const Tensor expected = (gradient * 0.035 / (h * 0.04 + 1e-15)).clamp(-1, 1);
    EXPECT_LT(distance(before - run.w, expected), 1e-12);
    EXPECT_LT(expected.abs().median().item<double>(), 1);  // the division is seen
  }
}

TEST(Elementwise, SophiaSaysWhatProbeItWants) {
  SophiaOptions o;
  EXPECT_EQ(sophia(o).direction.traits().probe, ProbeKind::gauss_newton);
  EXPECT_EQ(sophia(o).direction.traits().probe_every, 10);
  o.scaling.estimator = SophiaEstimator::hutchinson;
  EXPECT_EQ(sophia(o).direction.traits().probe, ProbeKind::hutchinson);
}

// --- Adam-mini ---

TEST(Elementwise, AdamMiniWithBlocksOfOneEntryIsAdamw) {
  AdamwOptions adam;
  adam.weight_decay = 0.1;
  for (const ParameterInfo& info : {matrix(1, 1), matrix(9, 1), vector(Role::bias), vector(Role::gain, 1)})
    EXPECT_LT(distance(weights(adam_mini({.weight_decay = 0.1}), info), weights(adamw(adam), info)), kExact);
  for (const ParameterInfo& info : {matrix(2, 2), vector(Role::gain)})
    EXPECT_GT(distance(weights(adam_mini({.weight_decay = 0.1}), info), weights(adamw(adam), info)), kSeen);
}

/// With beta2 = 0 the second moment is the block's own mean square, and beta1 = 0 leaves G / rms.
Tensor divided(const ParameterInfo& info) {
  Trained run(adam_mini({.beta1 = 0, .beta2 = 0, .eps = 0}), info, 1);
  const Tensor before = run.w.detach().clone();
  run.step(draw(info.shape, 1));
  return before - run.w.detach();
}

/// G over the root mean square of its blocks of `size` rows.
Tensor by_blocks(const Tensor& g, int64_t size) {
  const Tensor blocks = g.reshape({-1, size * g.size(-1)});
  return (blocks / blocks.square().mean(-1, true).sqrt()).view_as(g);
}

TEST(Elementwise, AdamMiniBlocksAreWhatTheModelSays) {
  ParameterInfo info = matrix();
  const Tensor g = draw(info.shape, 1);
  EXPECT_LT(distance(divided(info), by_blocks(g, 1)), kExact);
  info.projection = Projection::value;
  info.kv_heads = 2;
  EXPECT_LT(distance(divided(info), by_blocks(g, 1)), kExact);
  info.projection = Projection::key;
  EXPECT_LT(distance(divided(info), by_blocks(g, 6)), kExact);
  info.projection = Projection::query;
  info.heads = 4;
  EXPECT_LT(distance(divided(info), by_blocks(g, 3)), kExact);

  info.projection = Projection::fused_qkv;
  info.fused_parts = {4, 4, 4};
  const Tensor fused = at::cat(std::vector<Tensor>{by_blocks(g.narrow(0, 0, 4), 1), by_blocks(g.narrow(0, 4, 4), 2),
                                                   by_blocks(g.narrow(0, 8, 4), 1)});
  EXPECT_LT(distance(divided(info), fused), kExact);

  const ParameterInfo filter{.name = "w", .role = Role::conv, .shape = {4, 3, 2, 2}};
  EXPECT_LT(distance(divided(filter).view({4, 12}), by_blocks(draw(filter.shape, 1).view({4, 12}), 4)), kExact);
}

TEST(Elementwise, AdamMiniRefusesHeadsThatDoNotDivide) {
  ParameterInfo info = matrix();
  info.projection = Projection::query;
  EXPECT_THROW(Trained(adam_mini({}), info), UsageError);  // heads not stated
  info.heads = 5;
  EXPECT_THROW(Trained(adam_mini({}), info), UsageError);
  info.projection = Projection::fused_qkv;
  EXPECT_THROW(Trained(adam_mini({}), info), UsageError);
}

// --- cautious ---

TEST(Elementwise, CautiousIsPlainWhereAllAgree) {
  const AdamwOptions adam{.eps = 1e-6, .weight_decay = 0.1};
  CautiousAdamwOptions c;
  c.weight_decay = 0.1;
  EXPECT_LT(distance(weights(c_adamw(c), matrix(), steady), weights(adamw(adam), matrix(), steady)), kExact);
  EXPECT_GT(distance(weights(c_adamw(c), matrix()), weights(adamw(adam), matrix())), kSeen);

  const Recipe longer = chain_of({lion_momentum({.beta1 = 0.95, .beta2 = 0.98}), sign(), scale(192.0 / 193)});
  EXPECT_LT(distance(weights(c_lion({}), matrix(), steady), weights(longer, matrix(), steady)), kExact);
  EXPECT_GT(distance(weights(c_lion({}), matrix()), weights(longer, matrix())), kSeen);

  EXPECT_LT(distance(weights(c_muon({}), matrix(), steady), weights(muon({}), matrix(), steady)), kExact);
  EXPECT_GT(distance(weights(c_muon({}), matrix()), weights(muon({}), matrix())), kSeen);
}

/// Three of four entries turn against the momentum in the second step.
TEST(Elementwise, CautiousStopsWhatDisagreesAndMakesUpForIt) {
  const Tensor first = at::ones({2, 2}, at::kDouble);
  Tensor second = -0.1 * first;
  second[1][1] = 1;
  const auto move = [&](const Recipe& recipe) {
    Trained run(recipe, matrix(2, 2), 1);
    run.step(first);
    const Tensor before = run.w.detach().clone();
    run.step(second);
    return before - run.w.detach();
  };
  Tensor mask = at::zeros({2, 2}, at::kDouble);
  mask[1][1] = 1;
  const AdamwOptions adam{.eps = 1e-6, .weight_decay = 0};
  EXPECT_LT(distance(move(c_adamw({})), move(adamw(adam)) * mask * 4), 1e-12);
  EXPECT_LT(distance(move(c_lion({})), mask * 2), kExact);  // 4 entries over 1 + 1
}

TEST(Elementwise, CautiousMuonMasksByMomentumNotByItsMixture) {
  // G = (1, -1) after (1, 1): M = (+, +), while the mixture (1 - mu) G + mu M may have either sign.
  const Stage masked = chain({ema({.beta = 0.5, .nesterov = true}), cautious({.nesterov = 0.5})});
  Trained run({.name = "custom", .direction = masked}, matrix(1, 2), 1);
  run.step(at::ones({1, 2}, at::kDouble));
  const Tensor gradient = at::ones({1, 2}, at::kDouble);
  gradient[0][1] = -0.3;  // M = 0.5 * 0.5 - 0.15 = 0.1 > 0; the mixture is 0.05 - 0.15 < 0, with the gradient
  const Tensor before = run.w.detach().clone();
  run.step(gradient);
  EXPECT_EQ((before - run.w)[0][1].item<double>(), 0);
  EXPECT_GT((before - run.w)[0][0].item<double>(), 0);
}

TEST(Elementwise, CautiousSeesTheSignsOfTinyEntries) {
  const Tensor tiny = at::full({2, 2}, 1e-30, at::kFloat);
  const Stage mask = cautious({});
  const ParameterInfo info = matrix(2, 2);
  State none;
  EXPECT_TRUE(at::equal(mask.apply(tiny, none, {.parameter = info, .grad = tiny}), tiny));
}

// --- what they refuse ---

TEST(Elementwise, RangesAreChecked) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(adagrad({.eps = -1}), UsageError);
  EXPECT_THROW(adagrad({.initial_accumulator_value = -1}), UsageError);
  EXPECT_THROW(adagrad({.lr_decay = nan}), UsageError);
  EXPECT_THROW(lion({.beta1 = 1}), UsageError);
  EXPECT_THROW(lion({.beta2 = -0.1}), UsageError);
  EXPECT_THROW(ademamix({.beta3 = 1}), UsageError);
  EXPECT_THROW(ademamix({.alpha = -1}), UsageError);
  EXPECT_THROW(ademamix({.alpha_warmup = -1}), UsageError);
  EXPECT_THROW(ademamix({.beta3 = 1 - 1e-10, .beta3_warmup = 10}), UsageError);
  EXPECT_NO_THROW(ademamix({.beta3 = 1 - 1e-10}));
  EXPECT_THROW(mars({.gamma = nan}), UsageError);
  EXPECT_THROW(mars({.max_norm = -1}), UsageError);
  EXPECT_THROW(mars({.beta2_1d = 1}), UsageError);
  EXPECT_THROW(mars({.rate_1d = -1}), UsageError);
  EXPECT_THROW(scale_by_sophia({.rho = 0}), UsageError);
  EXPECT_THROW(scale_by_sophia({.bs = 0}), UsageError);
  EXPECT_THROW(scale_by_sophia({.probe_every = 0}), UsageError);
  EXPECT_THROW(adam_mini({.beta2 = 1}), UsageError);
  EXPECT_THROW(c_adamw({.eps = -1}), UsageError);
  EXPECT_THROW(c_lion({.beta2 = 1}), UsageError);
  EXPECT_THROW(c_muon({.momentum = 1}), UsageError);
  EXPECT_THROW(sign_muon({.momentum = 1}), UsageError);
  EXPECT_THROW(sign_muon({.weight_decay = -1}), UsageError);
}

}  // namespace
}  // namespace schatten
