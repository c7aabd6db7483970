// Orthogonalising recipes in degenerate cases that must equal something known, and on numbers worked out elsewhere.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/controllers.h>
#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/dion.h>
#include <schatten/stages/in_blocks.h>
#include <schatten/stages/registry.h>

#include <cmath>

namespace schatten {
namespace {

Tensor draw(std::vector<int64_t> shape, int64_t n) { return Rng(77).at(n).normal(shape, at::kDouble); }

Recipe chain_of(std::vector<Stage> stages) { return {.name = "custom", .direction = chain(std::move(stages))}; }

/// One parameter and its optimizer, stepped by hand.
struct Single {
  ParameterInfo info;
  Tensor w;
  Optimizer optimizer;

  Single(const Recipe& recipe, const Tensor& init, double lr = 1, ParameterInfo described = {})
      : info(complete(std::move(described), init)),
        w(init.clone().requires_grad_(true)),
        optimizer(std::vector<Parameter>{{info, w}}, {{"any", recipe, lr}}) {}
  static ParameterInfo complete(ParameterInfo p, const Tensor& init) {
    if (p.name.empty()) p.name = "w";
    p.shape = init.sizes().vec();
    return p;
  }
  void step(const Tensor& grad, double lr = 1) {
    w.mutable_grad() = grad.clone();
    optimizer.step(lr);
  }
  Tensor weights() const { return w.detach(); }
};

/// W after some steps from W = 0 with lr 1.
Tensor run(const Recipe& recipe, std::vector<int64_t> shape, int steps = 4, ParameterInfo described = {}) {
  Single run(recipe, at::zeros(shape, at::kDouble), 1, std::move(described));
  for (int t = 0; t < steps; ++t) run.step(draw(shape, t));
  return run.weights();
}

double largest_difference(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }
double root_mean_square(const Tensor& x) { return x.square().mean().sqrt().item<double>(); }

// --- numbers worked out from the written algorithms, by an independent float64 program ---

/// Exact rationals: ((37 i^2 + 101 ij + 53 j + 17 i + 11 + 29 t (i + 1) + 7 t^2 (j + 2)) mod 97) / 97 - 1/2.
Tensor rational(int64_t rows, int64_t cols, int64_t t) {
  Tensor x = at::empty({rows, cols}, at::kDouble);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t n = 37 * i * i + 101 * i * j + 53 * j + 17 * i + 11 + 29 * t * (i + 1) + 7 * t * t * (j + 2);
      x[i][j] = static_cast<double>(n % 97) / 97 - 0.5;
    }
  return x;
}

struct Worked {
  const char* name;
  Recipe recipe;
  std::array<double, 4> expected;  // W[0, 0], W[1, 2], W[5, 3], |W|_F after three steps
  bool given_q = false;
};

MuonOptions decayed_muon(MuonVariant variant) {
  MuonOptions o = muon_variant(variant);
  o.weight_decay = 0.1;
  return o;
}
NormuonOptions decayed_normuon(NormuonVariant variant) {
  NormuonOptions o = normuon_variant(variant);
  if (variant != NormuonVariant::modded) o.weight_decay = 0.1;
  return o;
}

TEST(Orthogonal, ThreeStepsOfEachAsWorkedOutElsewhere) {
  const std::vector<Worked> all = {
      {"muon jordan",
       muon(decayed_muon(MuonVariant::jordan)),
       {-.274815940859, -.437723829097, .235448405261, 1.426519291236}},
      {"muon torch",
       muon(decayed_muon(MuonVariant::torch)),
       {-.274815964589, -.437723838007, .235448400686, 1.426519325172}},
      {"muon moonlight",
       muon(decayed_muon(MuonVariant::moonlight)),
       {-.279010899464, -.442550493697, .257115346683, 1.442363104179}},
      {"normuon repository",
       normuon(decayed_normuon(NormuonVariant::repository)),
       {-.276042050749, -.437750293278, .233525920867, 1.424865011751}},
      {"normuon modded",
       normuon(decayed_normuon(NormuonVariant::modded)),
       {-.277282488478, -.433059574858, .231532344887, 1.429504400600}},
      {"normuon dion",
       normuon(decayed_normuon(NormuonVariant::dion)),
       {-.272065108478, -.433466601859, .228805496946, 1.416097676322}},
      {"adamuon", adamuon({}), {-.277226749480, -.440044033061, .256950564773, 1.445479248119}},
      {"dion2",
       dion2({.fraction = 0.5, .weight_decay = 0.1}),
       {-.281807523505, -.450709507436, .247578116326, 1.439812025235}},
      {"dion",
       dion({.rank = 2, .transpose = false, .weight_decay = 0.1}),
       {-.279498175708, -.460205319199, .230369946907, 1.439948423941},
       true},
  };
  for (const Worked& c : all) {
    Single run(c.recipe, rational(6, 4, 5), 0.02);
    if (c.given_q) run.optimizer.slot("w", "Q").copy_(rational(4, 2, 7));
    for (int64_t t = 1; t <= 3; ++t) run.step(rational(6, 4, t));
    const Tensor w = run.weights();
    const std::array<double, 4> got{w[0][0].item<double>(), w[1][2].item<double>(), w[5][3].item<double>(),
                                    w.norm().item<double>()};
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], c.expected[i], 2e-12) << c.name << ", number " << i;
  }
}

// --- the iteration's options ---

TEST(Orthogonalize, OwnCoefficientsAreTheNamedScheduleAndWrongOnesAreRefused) {
  const Recipe named = chain_of({orthogonalize({.schedule = "quintic", .steps = 2})});
  const std::vector<double> jordan{3.4445, -4.7750, 2.0315};
  EXPECT_TRUE(
      at::equal(run(named, {12, 16}), run(chain_of({orthogonalize({.coefficients = {jordan, jordan}})}), {12, 16})));
  EXPECT_THROW(orthogonalize({.coefficients = {{4.0098, -7.0585, 2.4635}}}), UsageError);  // flips the largest
  EXPECT_THROW(orthogonalize({.coefficients = {{5, 5, 5}}}), UsageError);
  EXPECT_THROW(orthogonalize({.coefficients = {{1.5, -0.5}}}), UsageError);
  EXPECT_THROW(orthogonalize({.norm_margin = 0.5}), UsageError);
  EXPECT_THROW(orthogonalize({.steps = -1}), UsageError);
  EXPECT_THROW(orthogonalize({.schedule = "aol_a", .steps = 5}), UsageError);
  EXPECT_THROW(orthogonalize({.restarts = {-1}}), UsageError);
  const Recipe read =
      make_recipe(parse_toml("recipe = \"muon\"\npolar = { coefficients = [[1.5, -0.5, 0], [1.5, -0.5, 0.0]] }"));
  EXPECT_EQ(to_json(to_value(make_recipe(to_value(read)))), to_json(to_value(read)));
}

TEST(Orthogonalize, GramIsTheTextbookIterationInExactArithmetic) {
  for (const char* schedule : {"gram105", "you", "modded", "aol_b"}) {
    const Orthogonalize textbook{.schedule = schedule, .steps = 0};
    Orthogonalize gram = textbook;
    gram.iteration = PolarIteration::gram;
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{12, 40}, {40, 12}, {16, 16}})
      EXPECT_LT(largest_difference(run(chain_of({orthogonalize(textbook)}), shape),
                                   run(chain_of({orthogonalize(gram)}), shape)),
                1e-10)
          << schedule;
    const Tensor one = run(chain_of({orthogonalize(gram)}), {12, 40});
    EXPECT_FALSE(at::equal(one, run(chain_of({orthogonalize(textbook)}), {12, 40})));  // rounds in another order
    gram.restarts = {1};
    EXPECT_FALSE(at::equal(one, run(chain_of({orthogonalize(gram)}), {12, 40})));
  }
  EXPECT_NE(muon(muon_variant(MuonVariant::gram))
                .direction.decided(at::kFloat, this_isa())
                .find("gram105 Newton-Schulz by gram, 5 steps in float32"),
            std::string::npos);
}

// --- NorMuon, AdaMuon ---

TEST(Normuon, KeepsTheNormOfTheOrthogonalUpdate) {
  NormuonOptions o = normuon_variant(NormuonVariant::repository);
  MuonOptions m{.nesterov = true};
  m.polar = o.polar;
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{12, 20}, {20, 12}, {16, 16}}) {
    Single ours(normuon(o), at::zeros({rows, cols}, at::kDouble)), plain(muon(m), at::zeros({rows, cols}, at::kDouble));
    for (int t = 0; t < 4; ++t) {
      const Tensor a = ours.weights().clone(), b = plain.weights().clone(), grad = draw({rows, cols}, t);
      ours.step(grad);
      plain.step(grad);
      const double size = (plain.weights() - b).norm().item<double>();
      EXPECT_NEAR((ours.weights() - a).norm().item<double>(), size, 1e-9 * size);
      EXPECT_GT(largest_difference(ours.weights(), plain.weights()), 1e-3);
    }
  }
}

TEST(Normuon, FirstUpdateHasNeuronsOfOneSizeAndThePapersRmsIsAFifth) {
  const Tensor paper = run(normuon({.weight_decay = 0}), {12, 20}, 1);
  EXPECT_NEAR(root_mean_square(paper), 0.2, 1e-9);
  for (const NormuonVariant v : {NormuonVariant::paper, NormuonVariant::repository, NormuonVariant::dion}) {
    NormuonOptions o = normuon_variant(v);
    o.weight_decay = 0;
    const Tensor rows = run(normuon(o), {12, 20}, 1).square().mean(1);
    EXPECT_NEAR((rows.max() / rows.min()).item<double>(), 1, 1e-6);
  }
  NormuonOptions modded = normuon_variant(NormuonVariant::modded);
  modded.weight_decay = 0;
  const Tensor columns = run(normuon(modded), {12, 20}, 1).square().mean(0);  // wide: columns are the longer side
  EXPECT_NEAR((columns.max() / columns.min()).item<double>(), 1, 1e-6);
}

TEST(Normuon, AConvolutionIsItsFlattenedMatrixUnlessReleased) {
  NormuonOptions o = normuon_variant(NormuonVariant::repository);
  const auto steps = [](const Recipe& recipe, std::vector<int64_t> shape) {
    Single run(recipe, at::zeros(shape, at::kDouble));
    for (int t = 0; t < 3; ++t) run.step(draw({8, 36}, t).reshape(shape));
    return run.weights().reshape({8, 36});
  };
  EXPECT_TRUE(at::equal(steps(normuon(o), {8, 4, 3, 3}), steps(normuon(o), {8, 36})));
  EXPECT_TRUE(at::equal(steps(adamuon({}), {8, 4, 3, 3}), steps(adamuon({}), {8, 36})));
  EXPECT_TRUE(at::equal(steps(rmnp({}), {8, 4, 3, 3}), steps(rmnp({}), {8, 36})));
  o.neurons.released_conv = true;
  EXPECT_GT(largest_difference(steps(normuon(o), {8, 4, 3, 3}), steps(normuon(o), {8, 36})), 1e-2);
  const Tensor released = run(adamuon({.released_conv = true, .weight_decay = 0}), {8, 4, 3, 3}, 1);
  EXPECT_NEAR(root_mean_square(released), 0.2 * std::sqrt(3 * 8 / 288.0), 1e-9);  // min max of the four dims for mn
}

TEST(Normuon, StatisticsAreFloat32AtLeast) {
  const ParameterInfo w{.name = "w", .shape = {12, 20}};
  for (const auto& [state, slot] :
       {std::pair{at::kBFloat16, at::kFloat}, {at::kFloat, at::kFloat}, {at::kDouble, at::kDouble}}) {
    const Bucket bucket = bucket_of(w, state);
    State s(normalize_variance({}).state(bucket), bucket);
    EXPECT_EQ(s["exp_avg_sq"].scalar_type(), slot);
  }
}

TEST(Adamuon, FirstStepIsAFifthOfTheSignsAndEveryRmsIsAFifth) {
  const AdamuonOptions o{.weight_decay = 0};
  const Tensor first = run(adamuon(o), {12, 20}, 1);
  EXPECT_TRUE(at::allclose(first.abs(), at::full_like(first, 0.2), 1e-5, 0));
  const Recipe signs = chain_of({ema({.beta = 0.95, .nesterov = true}), sign(), orthogonalize(o.polar)});
  EXPECT_TRUE(at::equal(first.sign(), run(signs, {12, 20}, 1).sign()));
  Single steps(adamuon(o), at::zeros({12, 20}, at::kDouble));
  for (int t = 0; t < 5; ++t) {
    const Tensor before = steps.weights().clone();
    steps.step(draw({12, 20}, t));
    EXPECT_NEAR(root_mean_square(steps.weights() - before), 0.2, 1e-8);
  }
  AdamuonOptions raw = o;
  raw.sign = false;
  EXPECT_GT(largest_difference(run(adamuon(raw), {12, 20}), run(adamuon(o), {12, 20})), 1e-2);
}

// --- LionMuon ---

LionMuonOptions undecayed_lion_muon(int every) {
  return {.beta1 = 0.9, .beta2 = 0.99, .every = every, .lion_lr_ratio = 0.05, .weight_decay = 0.1};
}

TEST(LionMuon, AlwaysSpectralIsMuonWithoutNesterov) {
  // b1 = b2 with period 1: D = M after its update. The scale of M does not matter.
  LionMuonOptions o = undecayed_lion_muon(1);
  o.beta1 = o.beta2 = 0.95;
  o.polar.eps = 0;
  MuonOptions m = muon_variant(MuonVariant::k2);
  m.momentum_form = MomentumForm::ema;
  m.polar = o.polar;
  EXPECT_LT(largest_difference(run(lion_muon(o), {12, 20}), run(muon(m), {12, 20})), 1e-12);
  o.beta1 = 0.9;
  EXPECT_GT(largest_difference(run(lion_muon(o), {12, 20}), run(muon(m), {12, 20})), 1e-2);
}

TEST(LionMuon, RarelySpectralIsLionAfterTheFirstStep) {
  const Tensor init = draw({12, 20}, 50);
  Single ours(lion_muon(undecayed_lion_muon(1000)), init, 0.1);
  Single lions(lion({.beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.1}), init, 0.1 * 0.05);
  for (int t = 0; t < 6; ++t) {
    ours.step(draw({12, 20}, t));
    lions.step(draw({12, 20}, t));
    if (t == 0) {  // the first one is spectral: what it leaves is no Lion step's
      EXPECT_GT(largest_difference(ours.weights(), lions.weights()), 1e-2);
      lions.w.detach().copy_(ours.w.detach());
    }
    EXPECT_LT(largest_difference(ours.weights(), lions.weights()), 1e-14) << t;
  }
}

TEST(LionMuon, TheTriggerGoesByTheStableRank) {
  const auto with = [](double trigger, int every) {
    LionMuonOptions o = undecayed_lion_muon(every);
    o.trigger = trigger;
    return lion_muon(o);
  };
  EXPECT_TRUE(
      at::equal(run(with(1, 1000), {12, 20}), run(with(0, 1), {12, 20})));  // a stable rank is at most min(m, n)
  const auto is_sign = [&](const Recipe& recipe, const Tensor& grad) {
    Single one(recipe, at::zeros({12, 20}, at::kDouble));
    one.step(grad);
    return at::allclose(one.weights().abs(), at::full({12, 20}, 0.05, at::kDouble), 1e-12);
  };
  const Tensor gaussian = draw({12, 20}, 1), rank_one = at::mm(draw({12, 1}, 2), draw({1, 20}, 3));
  EXPECT_TRUE(is_sign(with(0.1, 1), gaussian));   // stable rank about 4, allowed 1.2
  EXPECT_FALSE(is_sign(with(0.1, 1), rank_one));  // stable rank 1
  EXPECT_TRUE(at::equal(run(with(0.3, 1), {12, 20}), run(with(0.3, 1), {12, 20})));
}

// --- RMNP ---

TEST(Rmnp, RowsAreUnitAndOrthogonalRowsGiveThePolarFactor) {
  const RmnpOptions o{.shape = ShapeScale::none};
  EXPECT_LT(largest_difference(run(rmnp(o), {12, 20}, 1).norm(2, 1), at::ones({12}, at::kDouble)), 1e-12);
  const Tensor q = std::get<0>(at::linalg_qr(draw({20, 12}, 4))).mT();  // orthonormal rows
  const Tensor grad = q * at::arange(1, 13, at::kDouble).unsqueeze(1);
  Single ours(rmnp(o), at::zeros({12, 20}, at::kDouble));
  ours.step(grad);
  EXPECT_LT(largest_difference(ours.weights(), -q), 1e-12);
  RmnpOptions averaged = o;
  averaged.momentum_form = MomentumForm::ema;
  EXPECT_LT(largest_difference(run(rmnp(o), {12, 20}), run(rmnp(averaged), {12, 20})), 1e-10);
}

// --- Dion ---

TEST(Dion, OfFullRankOnAnOrthogonalGradientIsTheGradient) {
  for (const bool transpose : {false, true})
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{20, 12}, {12, 12}, {12, 20}}) {
      if (!transpose && rows < cols) continue;  // 12 directions of 20 columns
      const Tensor q = rows >= cols ? std::get<0>(at::linalg_qr(draw({rows, cols}, 5)))
                                    : std::get<0>(at::linalg_qr(draw({cols, rows}, 5))).mT().contiguous();
      Single ours(dion({.rank = 0, .transpose = transpose, .shape = ShapeScale::none, .weight_decay = 0}),
                  at::zeros({rows, cols}, at::kDouble));
      ours.step(q);
      EXPECT_LT(largest_difference(ours.weights(), -q), 1e-7) << rows;  // eps = 1e-8 in the columns' lengths
      EXPECT_LT(largest_difference(ours.optimizer.slot("w", "momentum_buffer"), 0.95 * q), 1e-12);
    }
}

TEST(Dion, UpdatesHaveTheRankAndWhatIsLeftOutWaits) {
  Single ours(dion({.rank = 3, .shape = ShapeScale::none, .weight_decay = 0}), at::zeros({12, 20}, at::kDouble));
  const Tensor grad = draw({12, 20}, 6);
  ours.step(grad);
  const Tensor sigma = at::linalg_svdvals(ours.weights());
  EXPECT_GT(sigma[2].item<double>(), 0.1);
  const Tensor scaled = run(dion({.rank = 3, .weight_decay = 0}), {12, 20}, 1);
  EXPECT_LT(
      largest_difference(scaled, std::sqrt(12.0 / 20) *
                                     run(dion({.rank = 3, .shape = ShapeScale::none, .weight_decay = 0}), {12, 20}, 1)),
      1e-14);
  EXPECT_LT(sigma[3].item<double>(), 1e-12);
  EXPECT_EQ(ours.optimizer.slot("w", "Q").sizes(), at::IntArrayRef({12, 3}));  // wide: worked on transposed
  const Tensor taken = (grad - ours.optimizer.slot("w", "momentum_buffer")) / 0.05;
  EXPECT_LT(at::linalg_svdvals(taken)[3].item<double>(), 1e-12);
}

TEST(Dion, AZeroGradientMovesNothingAndKeepsTheBasis) {
  Single ours(dion({.rank = 3, .weight_decay = 0}), at::zeros({12, 20}, at::kDouble));
  ours.step(at::zeros({12, 20}, at::kDouble));
  EXPECT_EQ(ours.weights().abs().max().item<double>(), 0);
  EXPECT_GT(ours.optimizer.slot("w", "Q").abs().max().item<double>(), 0.1);
  Single fresh(dion({.rank = 3, .weight_decay = 0}), at::zeros({12, 20}, at::kDouble));
  fresh.step(draw({12, 20}, 6));
  ours.step(draw({12, 20}, 6));
  EXPECT_TRUE(at::equal(ours.weights(), fresh.weights()));
}

TEST(Dion, RanksAreSharesOrCountsAndTooLargeOnesAreRefused) {
  const auto columns = [](double rank) {
    Single one(dion({.rank = rank}), at::ones({12, 20}, at::kDouble));
    return one.optimizer.slot("w", "Q").size(1);
  };
  EXPECT_EQ(columns(0.25), 3);
  EXPECT_EQ(columns(0.01), 1);
  EXPECT_EQ(columns(5), 5);
  EXPECT_EQ(columns(0), 12);
  EXPECT_THROW(columns(13), UsageError);
  EXPECT_THROW(dion({.rank = 2.5}), UsageError);
  EXPECT_THROW(dion({.rank = -1}), UsageError);
  EXPECT_THROW(dion({.mu = 1}), UsageError);
}

TEST(Dion2, OfAllRowsIsMuonAndAPartOnlyMovesItsRows) {
  MuonOptions m = muon_variant(MuonVariant::dion);
  m.momentum = 0.9;
  m.weight_decay = 0.1;
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{12, 20}, {20, 12}})
    EXPECT_LT(largest_difference(run(dion2({.fraction = 1, .ef_decay = 0.9, .weight_decay = 0.1}), shape),
                                 run(muon(m), shape)),
              1e-12);
  Tensor grad = draw({12, 20}, 7) * 0.01;
  grad[4] *= 1000;
  grad[9] *= 1000;
  Single ours(dion2({.fraction = 0.12, .weight_decay = 0}), at::zeros({12, 20}, at::kDouble));
  ours.step(grad);  // ceil(0.12 * 12) = 2 rows
  const Tensor moved = ours.weights().abs().sum(1).ne(0);
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(moved[i].item<bool>(), i == 4 || i == 9) << i;
  const Tensor buffer = ours.optimizer.slot("w", "momentum_buffer");
  EXPECT_LT(largest_difference(buffer[4], 0.95 * grad[4]), 1e-14);
  EXPECT_TRUE(at::equal(buffer[5], grad[5]));
  EXPECT_THROW(dion2({.fraction = 0}), UsageError);
  EXPECT_THROW(dion2({.fraction = 1.5}), UsageError);
}

// --- SimpleMuon ---

TEST(SimpleMuon, LeavesTheMedianSingularValueNearZeroWhereMuonDoesNot) {
  const Tensor spectrum =
      at::arange(1, 769, at::kDouble).reciprocal();  // 1/k on the diagonal: U's are its singular values
  const auto median = [&](const Recipe& recipe) {
    Single one(recipe, at::zeros({768, 768}, at::kDouble));
    one.step(at::diag(spectrum));
    return one.weights().diagonal().abs().median().item<double>();
  };
  EXPECT_NEAR(median(simple_muon({})), 0.014, 0.003);
  EXPECT_GT(median(muon({.shape = ShapeScale::none})), 0.6);
  const RecipeInfo info = simple_muon_info();
  EXPECT_NE(info.summary.find("normalised momentum SGD"), std::string::npos);
}

TEST(SimpleMuon, IsFiveCubicStepsOfTheMomentum) {
  Single one(simple_muon({}), at::zeros({12, 20}, at::kDouble));
  Tensor expected = at::zeros({12, 20}, at::kDouble), momentum = at::zeros_like(expected);
  for (int t = 0; t < 3; ++t) {
    one.step(draw({12, 20}, t));
    momentum = 0.95 * momentum + 0.05 * draw({12, 20}, t);
    Tensor x = momentum / (1.1 * momentum.norm());
    for (int i = 0; i < 5; ++i) x = 1.5 * x - 0.5 * at::mm(at::mm(x, x.mT()), x);
    expected = expected - x;
  }
  EXPECT_LT(largest_difference(one.weights(), expected), 1e-6);  // eps = 1e-7 beside the norm
}

// --- blocks ---

TEST(InBlocks, HeadsAreRunEachByThemselves) {
  MuonOptions o = muon_variant(MuonVariant::moonlight);
  const Recipe whole = muon(o);
  o.split = MuonSplit::heads;
  const Recipe split = muon(o);
  const Tensor init = draw({12, 16}, 20);
  Single ours(split, init, 0.1, {.name = "q", .projection = Projection::query, .heads = 3});
  Single grouped(split, init, 0.1, {.name = "k", .projection = Projection::key, .heads = 3, .kv_heads = 1});
  Single silent(split, init, 0.1), unsplit(whole, init, 0.1);
  std::vector<Single> heads;
  for (int64_t h = 0; h < 3; ++h) heads.emplace_back(whole, init.narrow(0, 4 * h, 4), 0.1);
  for (int t = 0; t < 3; ++t) {
    const Tensor grad = draw({12, 16}, t);
    for (Single* s : {&ours, &grouped, &silent, &unsplit}) s->step(grad);
    for (int64_t h = 0; h < 3; ++h) heads[static_cast<size_t>(h)].step(grad.narrow(0, 4 * h, 4));
  }
  const Tensor expected = at::cat({heads[0].weights(), heads[1].weights(), heads[2].weights()});
  EXPECT_LT(largest_difference(ours.weights(), expected), 1e-14);
  EXPECT_GT(largest_difference(ours.weights(), unsplit.weights()), 1e-2);
  EXPECT_TRUE(at::equal(grouped.weights(), unsplit.weights()));  // one key head: the whole
  EXPECT_TRUE(at::equal(silent.weights(), unsplit.weights()));   // says nothing: the whole
}

TEST(InBlocks, FusedPartsAndTheirHeads) {
  const ParameterInfo qkv{.name = "qkv",
                          .shape = {16, 8},
                          .projection = Projection::fused_qkv,
                          .heads = 4,
                          .kv_heads = 2,
                          .fused_parts = {8, 4, 4}};
  const auto rows = [](const std::vector<RowBlock>& blocks) {
    std::vector<std::pair<int64_t, int64_t>> all;
    for (const RowBlock& b : blocks) all.emplace_back(b.from, b.info.rows());
    return all;
  };
  using Rows = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(rows(row_blocks(qkv, BlockRows::fused)), (Rows{{0, 8}, {8, 4}, {12, 4}}));
  EXPECT_EQ(rows(row_blocks(qkv, BlockRows::heads)),
            (Rows{{0, 2}, {2, 2}, {4, 2}, {6, 2}, {8, 2}, {10, 2}, {12, 2}, {14, 2}}));
  EXPECT_EQ(row_blocks(qkv, BlockRows::fused)[1].info.projection, Projection::key);
  const ParameterInfo output{.name = "o", .shape = {16, 8}, .projection = Projection::output, .heads = 4};
  EXPECT_EQ(rows(row_blocks(output, BlockRows::heads)), (Rows{{0, 16}}));
  MuonOptions o;
  o.split = MuonSplit::heads;
  EXPECT_THROW(Single(muon(o), at::ones({10, 4}, at::kDouble), 1, {.projection = Projection::query, .heads = 3}),
               UsageError);
  EXPECT_THROW(Single(muon(o), at::ones({10, 4}, at::kDouble), 1, {.fused_parts = {4, 4}}), UsageError);
}

TEST(InBlocks, InnerStateIsPerBlockAndSoAreRates) {
  const ParameterInfo query{.name = "q", .shape = {12, 20}, .projection = Projection::query, .heads = 3};
  const Bucket bucket = bucket_of(query, at::kFloat);
  const Stage polar = low_rank_polar({.rank = 0.5, .transpose = false});
  EXPECT_EQ(state_bytes(in_blocks({}, polar).state(bucket), bucket), 4 * (12 * 20 + 3 * 20 * 2));  // rank 2 of 4 rows
  // One head of rank one (spectral), two Gaussian ones (signs, at a twentieth of the rate).
  const Stage either = sign_between({.rate = 0.05, .trigger = 0.3}, orthogonalize({.schedule = "exact"}));
  Tensor grad = draw({12, 20}, 9);
  grad.narrow(0, 0, 4).copy_(at::mm(draw({4, 1}, 10), draw({1, 20}, 11)));
  Single ours(chain_of({in_blocks({}, either)}), at::zeros({12, 20}, at::kDouble), 1, query);
  ours.step(grad);
  const Tensor head = at::linalg_svdvals(ours.weights().narrow(0, 0, 4));
  EXPECT_NEAR(head[0].item<double>(), 1, 1e-12);
  EXPECT_TRUE(at::allclose(ours.weights().narrow(0, 4, 8).abs(), at::full({8, 20}, 0.05, at::kDouble), 1e-12));
}

// --- MuonClip ---

/// Two blocks: separate projections (4 query heads on 2 key heads), fused ones with a bias; a matrix beside them.
struct Attentive {
  std::vector<Parameter> parameters;

  Attentive() {
    add({.name = "0.q", .block = 0, .projection = Projection::query, .heads = 4}, {8, 6});
    add({.name = "0.k", .block = 0, .projection = Projection::key, .kv_heads = 2}, {4, 6});
    add({.name = "1.qkv",
         .block = 1,
         .projection = Projection::fused_qkv,
         .heads = 3,
         .kv_heads = 3,
         .fused_parts = {6, 6, 6}},
        {18, 6});
    add({.name = "1.qkv.bias",
         .role = Role::bias,
         .block = 1,
         .projection = Projection::fused_qkv,
         .heads = 3,
         .kv_heads = 3,
         .fused_parts = {6, 6, 6}},
        {18});
    add({.name = "1.mlp", .block = 1}, {10, 6});
  }
  void add(ParameterInfo info, std::vector<int64_t> shape) {
    info.index = static_cast<int64_t>(parameters.size());
    info.shape = shape;
    parameters.push_back({info, draw(shape, 30 + info.index).requires_grad_(true)});
  }
  Tensor operator[](size_t i) const { return parameters[i].tensor.detach(); }
  std::vector<Tensor> copy() const {
    std::vector<Tensor> all;
    for (const Parameter& p : parameters) all.push_back(p.tensor.detach().clone());
    return all;
  }
  void set_gradients(int64_t t) {
    for (Parameter& p : parameters) p.tensor.mutable_grad() = draw(p.info.shape, 100 * (t + 1) + p.info.index);
  }
};

std::vector<Route> clipped_routes(const QkClipControl& clip, double lr) {
  MuonClipOptions o;
  o.clip = clip;
  return {{"bias", adamw({}), lr}, {"any", muonclip(o), lr}};
}

void observe(Optimizer& opt, std::vector<double> first, std::vector<double> second) {
  opt.observe("largest_logits", 0, at::tensor(first, at::kDouble));
  opt.observe("largest_logits", 1, at::tensor(second, at::kDouble));
  opt.observe("largest_logits", 7, at::tensor({1e9}, at::kDouble));  // of a block that is not ours
}

TEST(Muonclip, WithoutAnythingToClipIsMuonBitForBit) {
  Attentive a, b;
  Optimizer clipped(a.parameters, clipped_routes({.tau = 1e9}, 0.01));
  Optimizer plain(b.parameters, {{"bias", adamw({}), 0.01}, {"any", muon(muon_variant(MuonVariant::k2)), 0.01}});
  EXPECT_EQ(clipped.wants(), std::vector<std::string>{"largest_logits"});
  EXPECT_TRUE(plain.wants().empty());
  for (int64_t t = 0; t < 4; ++t) {
    a.set_gradients(t);
    b.set_gradients(t);
    observe(clipped, {500, -3, 20, 1e6}, {5, 1e8, 0});
    clipped.step();
    plain.step();
  }
  for (size_t i = 0; i < a.parameters.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
  const TensorFile x = clipped.state(), y = plain.state();
  EXPECT_EQ(x.tensors.size(), y.tensors.size());
}

TEST(Muonclip, ScalesExactlyTheHeadsAboveTau) {
  Attentive model;
  const std::vector<Tensor> before = model.copy();
  Optimizer opt(model.parameters, clipped_routes({.tau = 10}, 0));
  model.set_gradients(0);
  observe(opt, {40, 10, -50, 20}, {9, 90, 10});
  opt.step();
  const auto rows_times = [](Tensor w, int64_t from, int64_t count, double by) { w.narrow(0, from, count).mul_(by); };
  std::vector<Tensor> expected = before;
  rows_times(expected[0], 0, 2, 0.25);  // grouped: the query alone
  rows_times(expected[0], 6, 2, 0.5);
  for (const size_t fused : {2U, 3U}) {  // head 1 of 3: query and key rows, of the weight and of its bias
    rows_times(expected[fused], 2, 2, 1 / 3.0);
    rows_times(expected[fused], 8, 2, 1 / 3.0);
  }
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(largest_difference(model[i], expected[i]), 1e-14) << i;
  for (const int64_t row : {2, 3, 4, 5}) EXPECT_TRUE(at::equal(model[0][row], before[0][row])) << row;
  EXPECT_TRUE(at::equal(model[1], before[1]));
}

TEST(Muonclip, SharedKeysMayTakeTheirPart) {
  Attentive model;
  const std::vector<Tensor> before = model.copy();
  Optimizer opt(model.parameters, clipped_routes({.tau = 10, .grouped = GroupedKeys::shared_key}, 0));
  model.set_gradients(0);
  observe(opt, {40, 10, 5, 5}, {1, 1, 1});
  opt.step();
  EXPECT_LT(largest_difference(model[1].narrow(0, 0, 2), 0.5 * before[1].narrow(0, 0, 2)), 1e-14);  // kappa
  EXPECT_LT(largest_difference(model[0].narrow(0, 0, 2), 0.5 * before[0].narrow(0, 0, 2)), 1e-14);  // gamma / kappa
  EXPECT_LT(largest_difference(model[0].narrow(0, 2, 2), 2 * before[0].narrow(0, 2, 2)), 1e-14);    // keeps its logits
  EXPECT_TRUE(at::equal(model[1].narrow(0, 2, 2), before[1].narrow(0, 2, 2)));
}

TEST(Muonclip, LatentAttentionKeepsItsSharedRotatedKey) {
  // 2 heads: q_b has 3 nope and 2 rope rows each, kv_b 3 nope and 4 value rows.
  Attentive model;
  model.parameters.clear();
  model.add({.name = "q_b", .block = 0, .projection = Projection::query, .heads = 2, .nope_rows = 3, .rope_rows = 2},
            {10, 6});
  model.add({.name = "kv_b", .block = 0, .projection = Projection::key, .heads = 2, .kv_heads = 2, .nope_rows = 3},
            {14, 6});
  const std::vector<Tensor> before = model.copy();
  MuonClipOptions o;
  o.clip = {.tau = 10};
  Optimizer opt(model.parameters, {{"any", muonclip(o), 0.0}});
  model.set_gradients(0);
  opt.observe("largest_logits", 0, at::tensor({40.0, 10.0}, at::kDouble));
  opt.step();
  std::vector<Tensor> expected = before;
  expected[0].narrow(0, 0, 3).mul_(0.5);   // nope: the square root of 10 / 40
  expected[0].narrow(0, 3, 2).mul_(0.25);  // rope: all of it, its key is shared
  expected[1].narrow(0, 0, 3).mul_(0.5);   // values stay
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(largest_difference(model[i], expected[i]), 1e-14) << i;
}

TEST(Muonclip, TheLargestLogitBecomesTau) {
  const Tensor x = draw({10, 6}, 60);
  const auto logits = [&](const Tensor& w) {  // of fused q, k of 3 heads
    const Tensor q = at::mm(x, w.narrow(0, 0, 6).mT()).view({10, 3, 2}).transpose(0, 1);
    const Tensor k = at::mm(x, w.narrow(0, 6, 6).mT()).view({10, 3, 2}).transpose(0, 1);
    return at::bmm(q, k.mT()).amax({1, 2}) / std::sqrt(2.0);
  };
  Attentive model;
  const Tensor before = logits(model[2]);
  const double tau = before.median().item<double>();
  Optimizer opt(model.parameters, clipped_routes({.tau = tau}, 0));
  model.set_gradients(0);
  opt.observe("largest_logits", 0, at::zeros({4}, at::kDouble));
  opt.observe("largest_logits", 1, before);
  opt.step();
  EXPECT_LT(largest_difference(logits(model[2]), before.clamp_max(tau)), 1e-12);
}

TEST(Muonclip, OneRouteClipsABlockOnceAndSaysWhatIsMissing) {
  Attentive model;
  const Tensor before = model[2].clone();
  MuonClipOptions o;
  o.clip.tau = 10;
  Optimizer two(model.parameters, {{"bias", adamw({}), 0}, {"*.mlp", muonclip(o), 0}, {"any", muonclip(o), 0}});
  model.set_gradients(0);
  observe(two, {1, 1, 1, 1}, {40, 1, 1});
  two.step();
  EXPECT_LT(largest_difference(model[2].narrow(0, 0, 2), 0.5 * before.narrow(0, 0, 2)), 1e-14);
  two.observe("largest_logits", 0, at::zeros({4}));
  EXPECT_THROW(two.step(), Error);  // block 1 unobserved
  EXPECT_THROW(two.step(), Error);  // nothing observed
  std::vector<Parameter> query{model.parameters[0]};
  Optimizer alone(query, {{"any", muonclip(o), 0}});
  alone.observe("largest_logits", 0, at::zeros({4}));
  EXPECT_THROW(alone.step(), UsageError);
}

TEST(Muonclip, TheClipGoesWithEveryRecipe) {
  const Recipe recipe =
      make_recipe(parse_toml("recipe = \"adamw\"\ncontrollers = [{ controller = \"qk_clip\", tau = 30 }]"));
  EXPECT_EQ(recipe.controllers.front().wants(), "largest_logits");
  EXPECT_EQ(to_json(to_value(make_recipe(to_value(recipe)))), to_json(to_value(recipe)));
  EXPECT_THROW(qk_clip_control({.tau = 0}), UsageError);
  EXPECT_THROW(qk_clip_control({.tau = NAN}), UsageError);
  EXPECT_THROW(qk_clip_control({.alpha = 1.5}), UsageError);
}

// --- bad input ---

TEST(Orthogonal, OptionsOutOfRangeAreRefused) {
  EXPECT_THROW(normalize_variance({.beta2 = 1}), UsageError);
  EXPECT_THROW(normalize_variance({.eps = 0}), UsageError);
  EXPECT_THROW(normalize_variance({.size_eps = 0}), UsageError);
  EXPECT_THROW(normalize_variance({.rms = -1}), UsageError);
  EXPECT_THROW(normalize_rows({.eps = 0}), UsageError);
  EXPECT_THROW(lion_muon({.every = 0}), UsageError);
  EXPECT_THROW(lion_muon({.lion_lr_ratio = -1}), UsageError);
  EXPECT_THROW(lion_muon({.trigger = -1}), UsageError);
  EXPECT_THROW(lion_muon({.power_iterations = 0}), UsageError);
  EXPECT_THROW(normuon({.momentum = 1}), UsageError);
  EXPECT_THROW(adamuon({.momentum = -0.1}), UsageError);
  EXPECT_THROW(rmnp({.momentum = 1}), UsageError);
  EXPECT_THROW(simple_muon({.momentum = NAN}), UsageError);
  EXPECT_THROW(make_recipe(parse_toml("recipe = \"normuon\"\nvariant = \"papper\"")), UsageError);
  EXPECT_THROW(make_recipe(parse_toml("recipe = \"muon\"\nsplit = \"head\"")), UsageError);
}

TEST(Orthogonal, VariantsAreReadFromTablesWithTheirDefaults) {
  const auto direction = [](const char* toml) { return to_json(to_value(make_recipe(parse_toml(toml)))); };
  EXPECT_EQ(direction("recipe = \"normuon\"\nvariant = \"modded\""),
            to_json(to_value(normuon(normuon_variant(NormuonVariant::modded)))));
  EXPECT_EQ(direction("recipe = \"rmnp\"\nvariant = \"rnnp\""),
            to_json(to_value(rmnp(rmnp_variant(RmnpVariant::rnnp)))));
  EXPECT_EQ(direction("recipe = \"muon\"\nvariant = \"gram\""),
            to_json(to_value(muon(muon_variant(MuonVariant::gram)))));
  EXPECT_EQ(direction("recipe = \"muonclip\"\nvariant = \"jordan\""),
            to_json(to_value(muonclip({.muon = muon_variant(MuonVariant::jordan)}))));
  EXPECT_EQ(direction("recipe = \"muonclip\"\nweight_decay = 0.2\nclip = { tau = 30 }"), [] {
    MuonClipOptions o;
    o.muon.weight_decay = 0.2;
    o.clip.tau = 30;
    return to_json(to_value(muonclip(o)));
  }());
}

}  // namespace
}  // namespace schatten
