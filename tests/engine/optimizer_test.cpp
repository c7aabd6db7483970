// The engine: which tensors it takes, which recipe each gets, and what one step does and does not do.
#include <ATen/ATen.h>
#include <core/support.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/papers.h>
#include <schatten/stages/momentum.h>
#include <support/threads.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <map>
#include <mutex>
#include <vector>

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;
using testing::Threads;

Tensor draw(const std::vector<int64_t>& shape, int64_t n, at::ScalarType dtype = at::kFloat) {
  return Rng(31).at(n).normal(shape, dtype);
}

Parameter parameter(const std::string& name, const std::vector<int64_t>& shape, int64_t index,
                    at::ScalarType dtype = at::kFloat) {
  const Tensor w = draw(shape, index, dtype).requires_grad_(true);
  return {infer_parameter(name, w, index), w};
}

void set_gradients(const std::vector<Parameter>& parameters, int64_t step) {
  for (const Parameter& p : parameters)
    p.tensor.mutable_grad() = draw(p.info.shape, 1000 * step + p.info.index, p.tensor.scalar_type());
}

Recipe ema_only(double beta = 0.9) { return {.name = "ema_only", .direction = ema({.beta = beta})}; }

struct Net : torch::nn::Module {
  Net() : conv(torch::nn::Conv2dOptions(3, 6, 3)), hidden(24, 12), lm_head(12, 5) {
    register_module("conv", conv);
    register_module("hidden", hidden);
    register_module("lm_head", lm_head);
    embed = register_parameter("embed", draw({10, 24}, 1));
  }
  torch::nn::Conv2d conv;
  torch::nn::Linear hidden, lm_head;
  Tensor embed;
};

// --- which parameters, which routes ---

TEST(Optimizer, TakesAnyModule) {
  Net net;
  Optimizer optimizer(net, {{"conv", sgd({}), 0.5}, {"hidden_matrix", muon({}), 0.02}, {"any", adamw({}), 1e-3}});
  std::map<std::string, std::pair<Role, std::string>> rows;
  for (const Assignment& a : optimizer.assignments()) rows[a.parameter.name] = {a.parameter.role, a.recipe};
  const std::map<std::string, std::pair<Role, std::string>> expected{{"conv.weight", {Role::conv, "sgd"}},
                                                                     {"conv.bias", {Role::bias, "adamw"}},
                                                                     {"hidden.weight", {Role::hidden_matrix, "muon"}},
                                                                     {"hidden.bias", {Role::bias, "adamw"}},
                                                                     {"lm_head.weight", {Role::head, "adamw"}},
                                                                     {"lm_head.bias", {Role::bias, "adamw"}},
                                                                     {"embed", {Role::embedding, "adamw"}}};
  EXPECT_EQ(rows, expected);
  const Tensor before = net.hidden->weight.detach().clone();
  net.hidden->forward(net.embed).square().sum().backward();
  optimizer.step();
  EXPECT_FALSE(at::equal(net.hidden->weight, before));  // the module's own tensor
  optimizer.zero_grad();
  for (const Tensor& w : net.parameters()) EXPECT_FALSE(w.grad().defined());
}

TEST(Optimizer, AConvolutionIsSeenAsAMatrix) {
  const Parameter conv = parameter("c", {6, 3, 2, 2}, 0, at::kDouble);
  Parameter matrix{{.name = "m", .shape = {6, 12}}, conv.tensor.detach().view({6, 12}).clone().requires_grad_(true)};
  set_gradients({conv}, 1);
  matrix.tensor.mutable_grad() = conv.tensor.grad().view({6, 12}).clone();
  Optimizer a({conv}, {{"any", muon({}), 0.1}}), b({matrix}, {{"any", muon({}), 0.1}});
  std::vector<int64_t> seen;
  a.step(1.0, [&](const UpdateView& view) { seen = view.update.sizes().vec(); });
  b.step();
  EXPECT_EQ(seen, (std::vector<int64_t>{6, 12}));
  EXPECT_TRUE(at::equal(conv.tensor.view({6, 12}), matrix.tensor));
  EXPECT_EQ(conv.tensor.sizes(), (at::IntArrayRef{6, 3, 2, 2}));
}

TEST(Optimizer, AVectorIsOneRow) {
  const std::vector<Parameter> all{parameter("v", {7}, 0)};
  Optimizer optimizer(all, {{"any", ema_only(), 0.1}});
  set_gradients(all, 1);
  std::vector<int64_t> seen;
  optimizer.step(1.0, [&](const UpdateView& view) { seen = view.update.sizes().vec(); });
  EXPECT_EQ(seen, (std::vector<int64_t>{1, 7}));
  EXPECT_EQ(optimizer.slot("v", "momentum_buffer").sizes(), (at::IntArrayRef{1, 7}));
}

TEST(Optimizer, RefusesWhatItCannotStep) {
  const std::vector<Route> routes{{"any", sgd({}), 0.1}};
  const auto refusal = [&](const Tensor& t, std::vector<int64_t> shape = {}) {
    if (shape.empty() && t.defined()) shape = t.sizes().vec();
    return message_of<UsageError>([&] { Optimizer({{{.name = "bad", .shape = shape}, t}}, routes); });
  };
  const std::string strided = refusal(at::zeros({4, 6}).t());
  EXPECT_TRUE(contains(strided, "contiguous"));
  EXPECT_TRUE(contains(strided, "'bad'"));
  const std::map<std::string, Tensor> others{{"Long", at::zeros({2, 2}, at::kLong)},
                                             {"ComplexFloat", at::zeros({2, 2}, at::kComplexFloat)},
                                             {"undefined", Tensor()}};
  for (const auto& [what, tensor] : others) {
    const std::string message = refusal(tensor, {2, 2});
    EXPECT_TRUE(contains(message, "'bad'")) << what;
    EXPECT_TRUE(contains(message, what));
    EXPECT_TRUE(contains(message, "floating-point"));
  }
  EXPECT_TRUE(contains(refusal(at::eye(3).to_sparse()), "dense"));
  EXPECT_TRUE(contains(refusal(at::zeros({2, 3}), {3, 2}), "shape"));
}

TEST(Routing, ListsBothWhatIsUnroutedAndWhatIsUnused) {
  const std::vector<Parameter> all{parameter("w", {4, 6}, 0), parameter("norm.weight", {4}, 1)};
  const std::vector<Route> routes{
      {"hidden_matrix", muon({}), 0.1}, {"conv", sgd({}), 0.1}, {"layers.*", adamw({}), 0.1}};
  const std::string message = message_of<UsageError>([&] { Optimizer(all, routes); });
  EXPECT_TRUE(contains(message, "norm.weight (gain)"));
  EXPECT_TRUE(contains(message, "'conv' -> sgd"));
  EXPECT_TRUE(contains(message, "'layers.*' -> adamw"));
  EXPECT_FALSE(contains(message, "w (hidden_matrix)"));
  EXPECT_FALSE(contains(message, "'hidden_matrix'"));
}

TEST(Routing, TheFirstMatchWins) {
  const std::vector<Parameter> all{parameter("layers.0.w", {4, 6}, 0), parameter("layers.1.w", {4, 6}, 1)};
  const Optimizer optimizer(all, {{"layers.1.*", sgd({}), 0.1}, {"hidden_matrix", muon({}), 0.2}});
  ASSERT_EQ(optimizer.assignments().size(), 2u);
  EXPECT_EQ(optimizer.assignments()[0].recipe, "muon");
  EXPECT_EQ(optimizer.assignments()[0].lr, 0.2);
  EXPECT_EQ(optimizer.assignments()[1].recipe, "sgd");
  EXPECT_EQ(optimizer.assignments()[1].match, "layers.1.*");
  // The other way round the pattern has nothing left.
  EXPECT_TRUE(contains(
      message_of<UsageError>([&] { Optimizer(all, {{"hidden_matrix", muon({}), 0.2}, {"layers.1.*", sgd({}), 0.1}}); }),
      "'layers.1.*'"));
}

TEST(Routing, TheTableSaysWhatGoesWhere) {
  const std::vector<Parameter> all{parameter("w", {4, 6}, 0), parameter("v", {4}, 1), parameter("b.bias", {2}, 2)};
  const Optimizer optimizer(all, {{"hidden_matrix", muon({}), 0.02}, {"any", adamw({}), 0.5}});
  const std::string table = optimizer.routing_table();
  const std::string first = table.substr(0, table.find('\n')), second = table.substr(table.find('\n') + 1);
  for (const char* part : {"hidden_matrix -> muon", "24 entries", "lr 0.02"}) EXPECT_TRUE(contains(first, part));
  for (const char* part : {"any -> adamw", "6 entries", "1 gain", "1 bias", "lr 0.5"})
    EXPECT_TRUE(contains(second, part));
}

// --- one step ---

TEST(Step, WithoutAGradientNothingHappensAndNoStepIsCounted) {
  const std::vector<Parameter> all{parameter("a", {4, 6}, 0), parameter("b", {4, 6}, 1)};
  Optimizer optimizer(all, {{"any", adamw({.weight_decay = 0.1}), 0.1}});
  const Tensor before = all[1].tensor.detach().clone();
  for (int64_t t = 1; t <= 3; ++t) {
    set_gradients(all, t);
    if (t < 3) all[1].tensor.mutable_grad().reset();
    optimizer.step();
    EXPECT_EQ(at::equal(all[1].tensor, before), t < 3);
  }
  EXPECT_EQ(optimizer.state().at("a/step").item<int64_t>(), 3);
  EXPECT_EQ(optimizer.state().at("b/step").item<int64_t>(), 1);
  // Its first step is a first step, bias correction included.
  const std::vector<Parameter> fresh{parameter("b", {4, 6}, 1)};
  Optimizer other(fresh, {{"any", adamw({.weight_decay = 0.1}), 0.1}});
  set_gradients(fresh, 3);
  other.step();
  EXPECT_TRUE(at::equal(all[1].tensor, fresh[0].tensor));
}

TEST(Step, RaisesTheVersionOnceAndOnlyWhereItWrote) {
  const std::vector<Parameter> all{parameter("matrix", {12, 20}, 0), parameter("narrow", {1, 9}, 1),
                                   parameter("large", {600, 1001}, 2), parameter("skipped", {4, 6}, 3)};
  for (const Recipe& recipe : {sgd({}), adamw({}), muon({})}) {
    Optimizer optimizer(all, {{"large", adamw({}), 0.1}, {"any", recipe, 0.1}});
    set_gradients(all, 1);
    all[3].tensor.mutable_grad().reset();
    std::vector<uint32_t> before;
    for (const Parameter& p : all) before.push_back(p.tensor._version());
    optimizer.step();
    for (size_t i = 0; i < all.size(); ++i)
      EXPECT_EQ(all[i].tensor._version(), before[i] + (i != 3)) << recipe.name << ", " << all[i].info.name;
  }
}

TEST(Step, LeavesTheGradientAlone) {
  const std::vector<Parameter> all{parameter("w", {12, 20}, 0)};
  for (const Recipe& recipe : {sgd({.weight_decay = 0.1}), adamw({}), muon({})}) {
    Optimizer optimizer(all, {{"any", recipe, 0.1}});
    set_gradients(all, 1);
    const Tensor before = all[0].tensor.grad().clone();
    optimizer.step();
    EXPECT_TRUE(at::equal(all[0].tensor.grad(), before)) << recipe.name;
  }
}

TEST(Step, AGradientWithOtherStridesIsReadRight) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{12, 20}, {600, 1001}}) {
    const std::vector<Parameter> one{parameter("w", shape, 0)}, two{parameter("w", shape, 0)};
    Optimizer a(one, {{"any", adamw({}), 0.1}}), b(two, {{"any", adamw({}), 0.1}});
    set_gradients(one, 1);
    two[0].tensor.mutable_grad() = one[0].tensor.grad().t().contiguous().t();
    a.step();
    b.step();
    EXPECT_TRUE(at::equal(one[0].tensor, two[0].tensor));
  }
}

TEST(Step, TheFactorMultipliesEveryRate) {
  const auto make = [] { return std::vector<Parameter>{parameter("w", {12, 20}, 0), parameter("v", {9}, 1)}; };
  const auto one = make(), two = make();
  const AdamwOptions decayed{.weight_decay = 0.1};
  Optimizer a(one, {{"hidden_matrix", muon({.weight_decay = 0.1}), 0.25}, {"any", adamw(decayed), 0.5}});
  Optimizer b(two, {{"hidden_matrix", muon({.weight_decay = 0.1}), 0.125}, {"any", adamw(decayed), 0.25}});
  set_gradients(one, 1);
  set_gradients(two, 1);
  double seen = 0;
  a.step(0.5, [&](const UpdateView& view) {
    if (view.parameter.name == "v") seen = view.lr;
  });
  b.step();
  EXPECT_EQ(seen, 0.25);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i].tensor, two[i].tensor)) << i;
  EXPECT_EQ(a.assignments()[0].lr, 0.25);  // the route's rate stays
  const Tensor before = one[0].tensor.detach().clone();
  a.step(0);
  EXPECT_TRUE(at::equal(one[0].tensor, before));
}

TEST(Step, Bfloat16ParametersKeepFloat32State) {
  const std::vector<Parameter> all{parameter("w", {12, 20}, 0, at::kBFloat16)};
  Optimizer optimizer(all, {{"any", ema_only(0.5), 0.25}});
  Tensor moment = at::zeros({12, 20}), weight = all[0].tensor.detach().clone();
  for (int64_t t = 1; t <= 4; ++t) {
    set_gradients(all, t);
    moment.mul_(0.5).add_(all[0].tensor.grad().to(at::kFloat), 0.5);
    weight.add_(moment.to(at::kBFloat16), -0.25);
    optimizer.step();
  }
  EXPECT_EQ(optimizer.slot("w", "momentum_buffer").scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(optimizer.slot("w", "momentum_buffer"), moment, 1e-6, 0));  // eight bits would miss by 1e-3
  EXPECT_TRUE(at::equal(all[0].tensor, weight));
  EXPECT_EQ(optimizer.state_bytes(), 4 * 12 * 20);
}

TEST(Step, TheStateDtypeCanBeChosen) {
  const std::vector<Parameter> all{parameter("w", {12, 20}, 0)};
  Optimizer optimizer(all, {{"any", ema_only(), 0.1}}, {.state_dtype = at::kDouble});
  set_gradients(all, 1);
  optimizer.step();
  EXPECT_EQ(optimizer.slot("w", "momentum_buffer").scalar_type(), at::kDouble);
  EXPECT_EQ(all[0].tensor.scalar_type(), at::kFloat);
}

TEST(Step, PiecesOfALargeTensorAreTheWholeBitForBit) {
  const std::vector<int64_t> shape{600, 1001};  // three pieces, the last one odd
  for (const Recipe& recipe : {sgd({.momentum = 0.9, .weight_decay = 0.1}), adam({.weight_decay = 0.1}), adamw({}),
                               adamw({.weight_decay = 0.1, .decay = DecayForm::cautious})}) {
    std::vector<std::pair<std::string, std::vector<Tensor>>> results;
    for (const int threads : {1, 2})
      for (const bool whole : {false, true}) {
        const Threads scope(threads);
        const std::vector<Parameter> all{parameter("w", shape, 0)};
        Optimizer optimizer(all, {{"any", recipe, 0.1}});
        for (int64_t t = 1; t <= 3; ++t) {
          set_gradients(all, t);
          // Who watches sees the whole update, so nothing is cut.
          if (whole) optimizer.step(1.0, [](const UpdateView&) {});
          else optimizer.step();
        }
        std::vector<Tensor> end{all[0].tensor.detach()};
        for (const auto& [path, tensor] : optimizer.state().tensors) end.push_back(tensor);
        results.emplace_back((whole ? "whole, threads " : "pieces, threads ") + std::to_string(threads), end);
      }
    for (const auto& [what, end] : results)
      for (size_t i = 0; i < end.size(); ++i)
        EXPECT_TRUE(at::equal(end[i], results[0].second[i])) << recipe.name << ", " << what;
  }
}

TEST(Step, OneLargeMatrixHasTheSameBitsWithOneAndTwoThreads) {
  std::vector<Tensor> ends;
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    const std::vector<Parameter> all{parameter("w", {256, 384}, 0)};
    Optimizer optimizer(all, {{"any", muon({}), 0.1}});
    for (int64_t t = 1; t <= 2; ++t) {
      set_gradients(all, t);
      optimizer.step();
    }
    ends.push_back(all[0].tensor.detach());
  }
  EXPECT_TRUE(at::equal(ends[0], ends[1]));
}

// --- state ---

TEST(StateFile, PathsAreParameterStageSlotAndShapesTheParameters) {
  const std::vector<Parameter> all{parameter("conv.weight", {6, 3, 2, 2}, 0), parameter("norm.weight", {5}, 1),
                                   parameter("w", {4, 6}, 2)};
  const std::vector<Route> routes{
      {"conv", muon({}), 0.1}, {"gain", adamw({}), 0.1}, {"any", sgd({.momentum = 0.9}), 0.1}};
  const Optimizer optimizer(all, routes);
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [path, tensor] : optimizer.state().tensors) shapes[path] = tensor.sizes().vec();
  const std::map<std::string, std::vector<int64_t>> expected{{"conv.weight/ema/momentum_buffer", {6, 3, 2, 2}},
                                                             {"conv.weight/step", {}},
                                                             {"norm.weight/scale_by_adam/exp_avg", {5}},
                                                             {"norm.weight/scale_by_adam/exp_avg_sq", {5}},
                                                             {"norm.weight/step", {}},
                                                             {"w/heavy_ball/momentum_buffer", {4, 6}},
                                                             {"w/step", {}}};
  EXPECT_EQ(shapes, expected);
  EXPECT_TRUE(contains(optimizer.state().metadata.at("route.0"), "conv"));
  EXPECT_TRUE(contains(optimizer.state().metadata.at("route.1"), "scale_by_adam"));
}

TEST(StateFile, IsACopy) {
  const std::vector<Parameter> all{parameter("w", {4, 6}, 0)};
  Optimizer optimizer(all, {{"any", ema_only(), 0.1}});
  const TensorFile before = optimizer.state();
  set_gradients(all, 1);
  optimizer.step();
  EXPECT_EQ(before.at("w/ema/momentum_buffer").abs().max().item<double>(), 0);
  EXPECT_EQ(before.at("w/step").item<int64_t>(), 0);
  EXPECT_FALSE(optimizer.slot("w", "no_such_slot").defined());
  EXPECT_FALSE(optimizer.slot("no_such_parameter", "momentum_buffer").defined());
}

TEST(StateFile, OutlivesAMove) {
  const std::vector<Parameter> all{parameter("w", {4, 6}, 0)};
  Optimizer first(all, {{"any", ema_only(), 0.1}});
  set_gradients(all, 1);
  first.step();
  Optimizer second = std::move(first);
  second.step();
  EXPECT_EQ(second.state().at("w/step").item<int64_t>(), 2);
}

// --- fallbacks are counted and said ---

TEST(Noticed, ARaisedShiftIsSaidAndAnOrdinaryStepIsSilent) {
  const std::vector<Parameter> all{parameter("w", {256, 320}, 0)};
  Optimizer usual(all, {{"any", htmuon({.method = PowerMethod::rational}), 0.1}});
  Optimizer sharp(all, {{"any", htmuon({.method = PowerMethod::rational, .interval = 1e-5}), 0.1}});
  const Tensor basis = std::get<0>(at::linalg_qr(Rng(3).normal({320, 128}, at::kDouble)));
  const Tensor rows = std::get<0>(at::linalg_qr(Rng(4).normal({256, 128}, at::kDouble)));
  all[0].tensor.mutable_grad() = at::mm(rows, basis.mT()).to(at::kFloat);  // half of the singular values are zero
  usual.step();
  EXPECT_TRUE(usual.noticed().empty());
  sharp.step();
  ASSERT_EQ(sharp.noticed().size(), 1u);
  EXPECT_TRUE(contains(sharp.noticed()[0], "htmuon: ")) << sharp.noticed()[0];
  EXPECT_TRUE(contains(sharp.noticed()[0], "a shift raised")) << sharp.noticed()[0];
  EXPECT_TRUE(all[0].tensor.isfinite().all().item<bool>());
}

// --- a stage that throws ---

struct Fuse {
  std::string name() const { return "fuse"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket&) const { return {name()}; }
  Tensor apply(const Tensor& u, State&, const Step& step) const {
    if (step.parameter.name.starts_with("bad")) throw std::runtime_error("fuse blew in " + step.parameter.name);
    return u.clone();
  }
  Value to_value() const { return Value::Table{{"stage", name()}}; }
};

TEST(Step, AnExceptionInATaskReachesTheCaller) {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    std::vector<Parameter> all;
    for (int64_t i = 0; i < 8; ++i) all.push_back(parameter((i == 5 ? "bad" : "good") + std::to_string(i), {8, 8}, i));
    Optimizer optimizer(all, {{"any", {.name = "fuse", .direction = Fuse{}}, 0.1}});
    set_gradients(all, 1);
    const Tensor loss = (all[0].tensor * all[0].tensor).sum();  // saves a weight that the step may have moved
    EXPECT_EQ(message_of<std::runtime_error>([&] { optimizer.step(); }), "fuse blew in bad5") << threads;
    EXPECT_THROW(loss.backward(), c10::Error);
    all[5].tensor.mutable_grad().reset();  // and the engine still works
    const Tensor before = all[0].tensor.detach().clone();
    optimizer.step();
    EXPECT_FALSE(at::equal(all[0].tensor, before));
  }
}

TEST(Step, TheLongestTaskThrowsFirst) {
  const Threads one(1);
  const std::vector<Parameter> all{parameter("bad_small", {4, 4}, 0), parameter("bad_large", {16, 16}, 1)};
  Optimizer optimizer(all, {{"any", {.name = "fuse", .direction = Fuse{}}, 0.1}});
  set_gradients(all, 1);
  EXPECT_EQ(message_of<std::runtime_error>([&] { optimizer.step(); }), "fuse blew in bad_large");
}

TEST(Step, AWatcherThatThrowsIsHeardToo) {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    const std::vector<Parameter> all{parameter("a", {4, 4}, 0), parameter("b", {4, 4}, 1), parameter("c", {4, 4}, 2)};
    Optimizer optimizer(all, {{"any", sgd({}), 0.1}});
    set_gradients(all, 1);
    EXPECT_EQ(message_of<std::runtime_error>(
                  [&] { optimizer.step(1.0, [](const UpdateView&) { throw std::runtime_error("seen enough"); }); }),
              "seen enough");
  }
}

}  // namespace
}  // namespace schatten
