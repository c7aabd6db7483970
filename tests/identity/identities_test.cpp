// Degenerate cases that must equal something known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/momentum.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <cmath>

namespace schatten {
namespace {

Tensor draw(std::vector<int64_t> shape, int64_t n, at::ScalarType dtype = at::kDouble) {
  return Rng(21).at(n).normal(shape, dtype);
}

std::vector<Parameter> parameters(at::ScalarType dtype = at::kDouble) {
  std::vector<Parameter> all;
  for (const auto& shape : std::vector<std::vector<int64_t>>{{12, 16}, {16}, {24, 10}}) {
    const auto i = static_cast<int64_t>(all.size());
    const Tensor w = draw(shape, i, dtype).requires_grad_(true);
    all.push_back({infer_parameter("p" + std::to_string(i), w, i), w});
  }
  return all;
}

/// Our weights after `steps` minus theirs, largest entry.
template <class Theirs>
double against_torch(const Recipe& recipe, double lr, Theirs make, int steps = 10) {
  auto ours = parameters();
  std::vector<Tensor> theirs;
  for (const Parameter& p : ours) theirs.push_back(p.tensor.detach().clone().requires_grad_(true));
  Optimizer a(ours, {{"any", recipe, lr}});
  auto b = make(theirs);
  for (int t = 0; t < steps; ++t) {
    for (size_t i = 0; i < ours.size(); ++i) {
      const Tensor grad = draw(ours[i].info.shape, 100 * (t + 1) + static_cast<int64_t>(i));
      ours[i].tensor.mutable_grad() = grad.clone();
      theirs[i].mutable_grad() = grad.clone();
    }
    a.step();
    b.step();
  }
  double worst = 0;
  for (size_t i = 0; i < ours.size(); ++i)
    worst = std::max(worst, (ours[i].tensor - theirs[i]).abs().max().item<double>());
  return worst;
}

TEST(Identity, AdamwEqualsTorch) {
  const auto torch_adamw = [](const std::vector<Tensor>& p) {
    return torch::optim::AdamW(p, torch::optim::AdamWOptions(0.01).weight_decay(0.1));
  };
  AdamwOptions o;
  o.weight_decay = 0.1;
  EXPECT_LT(against_torch(adamw(o), 0.01, torch_adamw), 1e-13);
  o.beta2 = 0.998;  // the broken variant must be seen
  EXPECT_GT(against_torch(adamw(o), 0.01, torch_adamw), 1e-5);
}

TEST(Identity, SgdEqualsTorch) {
  for (const bool nesterov : {false, true})
    for (const double momentum : {0.0, 0.9}) {
      if (nesterov && momentum == 0) continue;
      const double error = against_torch(
          sgd({.momentum = momentum, .nesterov = nesterov, .weight_decay = 0.1}), 0.01, [&](const auto& p) {
            return torch::optim::SGD(
                p, torch::optim::SGDOptions(0.01).momentum(momentum).nesterov(nesterov).weight_decay(0.1));
          });
      EXPECT_LT(error, 1e-13) << momentum << nesterov;
    }
}

/// Weights after a few steps of a recipe on one matrix, undecayed, lr 1.
Tensor run(const Recipe& recipe, int steps = 4, double scale = 1) {
  const Tensor w = at::zeros({12, 16}, at::kDouble).requires_grad_(true);
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}}, {{"any", recipe, 1.0}});
  for (int t = 0; t < steps; ++t) {
    w.mutable_grad() = draw({12, 16}, t + 1) * scale;
    opt.step();
  }
  return w.detach();
}

Recipe chain_of(std::vector<Stage> stages) { return {.name = "custom", .direction = chain(std::move(stages))}; }

TEST(Identity, HtmuonAtPowerOneIsMomentum) {
  const Recipe plain = chain_of({ema({.beta = 0.95, .nesterov = true}), scale_by_shape({ShapeScale::jordan})});
  for (const PowerMethod method : {PowerMethod::automatic, PowerMethod::svd, PowerMethod::eigh, PowerMethod::rational})
    EXPECT_TRUE(at::equal(run(htmuon({.power = 1, .method = method})), run(plain)));
}

TEST(Identity, HtmuonAtPowerZeroIsThePolarFactor) {
  const Recipe exact = chain_of({ema({.beta = 0.95, .nesterov = true}), orthogonalize({.schedule = "exact"}),
                                 scale_by_shape({ShapeScale::jordan})});
  const Recipe cubic =
      chain_of({ema({.beta = 0.95, .nesterov = true}), orthogonalize({.schedule = "cubic", .steps = 40, .eps = 0}),
                scale_by_shape({ShapeScale::jordan})});
  for (const PowerMethod method : {PowerMethod::svd, PowerMethod::eigh}) {
    const Tensor w = run(htmuon({.power = 0, .method = method}));
    EXPECT_TRUE(at::allclose(w, run(exact), 1e-9, 1e-9));
    EXPECT_TRUE(at::allclose(w, run(cubic), 1e-9, 1e-9));
  }
  const Tensor w = run(exact), fast = run(htmuon({.power = 0, .method = PowerMethod::rational}));
  EXPECT_LT((fast - w).norm().item<double>(), 0.05 * w.norm().item<double>());
}

TEST(Identity, HtmuonMethodsAgree) {
  const Tensor svd = run(htmuon({.method = PowerMethod::svd}));
  EXPECT_TRUE(at::allclose(run(htmuon({.method = PowerMethod::eigh})), svd, 1e-9, 1e-9));
  const Tensor rational = run(htmuon({.method = PowerMethod::rational}));
  EXPECT_LT((rational - svd).norm().item<double>(), 0.01 * svd.norm().item<double>());
}

TEST(Identity, HtmuonRmsIsAsLargeAsMuonWhateverTheGradient) {
  const auto size = [](const Tensor& w) { return w.norm().item<double>(); };
  const Recipe rms = htmuon({.method = PowerMethod::svd, .update_norm = UpdateNorm::rms});
  EXPECT_NEAR(size(run(rms, 1)), std::sqrt(12.0), 1e-9);
  EXPECT_NEAR(size(run(rms, 1, 1e-6)), std::sqrt(12.0), 1e-9);
  EXPECT_NEAR(
      size(run(htmuon({.method = PowerMethod::svd}), 1, 1e-8)) / size(run(htmuon({.method = PowerMethod::svd}), 1)),
      std::pow(1e-8, 0.125), 1e-6);
}

TEST(Identity, MuonDoesNotSeeTheScaleOfGradientsNorTheFormOfMomentum) {
  MuonOptions o;
  o.polar.eps = 0;
  EXPECT_TRUE(at::allclose(run(muon(o)), run(muon(o), 4, 1e-3), 1e-9, 1e-12));
  MuonOptions heavy = o;
  heavy.momentum_form = MomentumForm::heavy_ball;
  EXPECT_TRUE(at::allclose(run(muon(o)), run(muon(heavy)), 1e-9, 1e-9));
}

/// W after one step from W = 2 everywhere on a given gradient.
Tensor decayed(const Decay& decay, double grad) {
  const Tensor w = at::full({2, 2}, 2.0, at::kDouble).requires_grad_(true);
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}},
                {{"any", {.name = "sgd", .direction = identity(), .decay = decay}, 0.1}});
  w.mutable_grad() = at::full({2, 2}, grad, at::kDouble);
  opt.step();
  return w.detach();
}

TEST(Identity, DecayForms) {
  const auto is = [](const Tensor& w, double v) { return at::allclose(w, at::full_like(w, v), 1e-14, 1e-14); };
  EXPECT_TRUE(is(decayed({}, 1), 2 - 0.1));
  EXPECT_TRUE(is(decayed(decoupled(0.5), 1), 2 * (1 - 0.05) - 0.1));
  EXPECT_TRUE(is(decayed(coupled(0.5), 1), 2 - 0.1 * (1 + 0.5 * 2)));
  EXPECT_TRUE(is(decayed(cautious_decay(0.5), 1), 2 * (1 - 0.05) - 0.1));  // update and weight agree in sign: decays
  EXPECT_TRUE(is(decayed(cautious_decay(0.5), -1), 2 + 0.1));              // they do not: no decay
}

TEST(Identity, AnyTorchModuleSteps) {
  torch::nn::Linear layer(6, 4);
  Optimizer opt(*layer, {{"hidden_matrix", muon({}), 0.02}, {"any", adamw({}), 0.003}});
  const Tensor before = layer->weight.detach().clone();
  layer->forward(at::ones({3, 6})).square().sum().backward();
  opt.step();
  opt.zero_grad();
  EXPECT_FALSE(at::equal(layer->weight, before));
  EXPECT_FALSE(layer->weight.grad().defined());
  EXPECT_NE(opt.routing_table().find(
                "hidden_matrix -> muon: 1 hidden matrix (24 entries), lr 0.02; quintic Newton-Schulz, 5 steps in "),
            std::string::npos);
}

TEST(Routing, NamesWhatHasNoRuleAndWhatHasNoParameter) {
  const auto message = [](std::vector<Route> routes) -> std::string {
    try {
      Optimizer(parameters(), std::move(routes));
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message({{"hidden_matrix", sgd({}), 1}}).find("p1"), std::string::npos);
  EXPECT_NE(message({{"any", sgd({}), 1}, {"head", sgd({}), 1}}).find("'head' -> sgd"), std::string::npos);
  EXPECT_EQ(message({{"p1", sgd({}), 1}, {"p*", adamw({}), 1}}), "");
}

TEST(Chain, TwoStagesOfOneNameAreRefused) {
  EXPECT_THROW(chain({ema({}), ema({})}), UsageError);
  EXPECT_NO_THROW(chain({ema({}), named("slow", ema({.beta = 0.99}))}));
}

TEST(Options, RangesAreChecked) {
  EXPECT_THROW(muon({.momentum = 1}), UsageError);
  EXPECT_THROW(htmuon({.power = -0.1}), UsageError);
  EXPECT_THROW(htmuon({.power = NAN}), UsageError);
  EXPECT_THROW(adamw({.beta1 = 1.5}), UsageError);
  EXPECT_THROW(adamw({.weight_decay = -1}), UsageError);
  EXPECT_THROW(sgd({.nesterov = true}), UsageError);
  EXPECT_THROW(make_route(parse_toml("recipe = \"muon\"\nlr = -1.0"), "any"), UsageError);
  EXPECT_THROW(make_route(parse_toml("recipe = \"muon\"\nlr = nan"), "any"), UsageError);
  EXPECT_THROW(make_route(parse_toml("recipe = \"muno\"\nlr = 1"), "any"), UsageError);
}

}  // namespace
}  // namespace schatten
