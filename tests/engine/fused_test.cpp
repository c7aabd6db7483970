// Fused twins: which recipes have one, that each is its chain, and that nothing but the numbers given decides its bits.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/fused.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>
#include <support/threads.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace schatten {
namespace {

using testing::Threads;

Recipe recipe_of(const std::string& toml) { return make_recipe(parse_toml(toml)); }

struct Case {
  std::string name, toml, kernel;
};

/// Each kernel, each form of it.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"adamw", "recipe = 'adamw'\nweight_decay = 0.1", "adam"},
      {"adam", "recipe = 'adam'\nweight_decay = 0.1", "adam"},
      {"adamw_uncorrected_eps", "recipe = 'adamw'\nform = 'uncorrected_eps'\nbeta2 = 0.95", "adam"},
      {"adamw_without_first", "recipe = 'adamw'\nbeta1 = 0", "adam"},
      {"adamw_after", "recipe = 'adamw'\nweight_decay = 0.1\ndecay = 'after'", "adam"},
      {"adamw_cautious", "recipe = 'adamw'\nweight_decay = 0.1\ndecay = 'cautious'", "adam"},
      {"adamw_cautious_squared", "recipe = 'adamw'\nweight_decay = 10\ndecay = 'cautious_squared'", "adam"},
      {"rmsprop", "recipe = 'rmsprop'\nweight_decay = 0.1", "adam"},
      {"rmsprop_momentum", "recipe = 'rmsprop'\nmomentum = 0.9", "rmsprop"},
      {"adagrad", "recipe = 'adagrad'\ninitial_accumulator_value = 0.5\nlr_decay = 0.1", "adagrad"},
      {"lion", "recipe = 'lion'\nweight_decay = 0.3", "lion"},
      {"sgd", "recipe = 'sgd'\nweight_decay = 0.1", "gradient"},
      {"sgd_momentum", "recipe = 'sgd'\nmomentum = 0.9\nweight_decay = 0.1", "momentum"},
      {"sgd_nesterov", "recipe = 'sgd'\nmomentum = 0.9\nnesterov = true\ndecay = 'decoupled'\nweight_decay = 0.1",
       "momentum"},
      {"ema", "direction = { stage = 'ema', beta = 0.3, nesterov = true }", "momentum"},
      {"sign_muon", "recipe = 'sign_muon'", "sign of momentum"},
      {"named", "direction = { named = 'aux', stage = 'scale_by_adam' }", "adam"},
      {"chain_of_one", "direction = { chain = [ { named = 'slow', stage = 'ema' } ] }", "momentum"},
  };
  return all;
}

std::vector<Parameter> model(at::ScalarType dtype, std::vector<std::vector<int64_t>> shapes = {
                                                       {12, 20}, {33}, {8, 4, 3, 3}, {1, 1}, {0, 5}}) {
  std::vector<Parameter> parameters;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Tensor w = Rng(11).of("init").at(static_cast<int64_t>(i)).normal(shapes[i], dtype).requires_grad_(true);
    parameters.push_back({infer_parameter("p" + std::to_string(i), w, static_cast<int64_t>(i)), w});
  }
  return parameters;
}

void set_gradients(std::vector<Parameter>& parameters, int64_t step) {
  for (Parameter& p : parameters)
    p.tensor.mutable_grad() = Rng(13).at(step).at(p.info.index).normal(p.info.shape, p.tensor.scalar_type());
}

/// The twin by itself, by instructions and pieces of choice.
struct Fused {
  FusedTwin twin;
  Decay decay;
  std::vector<Parameter> parameters;
  std::vector<State> states;
  Isa isa;
  int64_t piece;

  Fused(const Recipe& recipe, at::ScalarType dtype, Isa i, int64_t p)
      : twin(fused_twin(recipe).value()), decay(recipe.decay), parameters(model(dtype)), isa(i), piece(p) {
    for (const Parameter& w : parameters) {
      const Bucket bucket = bucket_of(w.info, at::kFloat);
      states.emplace_back(recipe.direction.state(bucket), bucket);
    }
  }
  void step(int64_t t, double lr) {
    set_gradients(parameters, t);
    std::vector<FusedJob> jobs;
    for (size_t i = 0; i < parameters.size(); ++i)
      jobs.push_back({&twin,
                      {.step = t,
                       .lr = lr,
                       .decay = decay,
                       .parameter = &parameters[i].info,
                       .state = &states[i],
                       .param = parameters[i].tensor.detach(),
                       .grad = parameters[i].tensor.grad()}});
    std::vector<Task> tasks;
    add_fused_tasks(tasks, std::move(jobs), isa, piece);
    run_tasks(std::move(tasks));
  }
  std::map<std::string, Tensor> tensors() {
    std::map<std::string, Tensor> all;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const ParameterInfo& info = parameters[i].info;
      all[info.name] = parameters[i].tensor.detach();
      states[i].each(
          [&](const std::string& path, const Tensor& t) { all[info.name + "/" + path] = t.reshape(info.shape); });
    }
    return all;
  }
};

/// The optimizer, stage by stage or fused.
std::map<std::string, Tensor> tensors_of(const Optimizer& opt, const std::vector<Parameter>& parameters) {
  std::map<std::string, Tensor> all;
  for (const Parameter& p : parameters) all[p.info.name] = p.tensor.detach();
  for (const auto& [name, tensor] : opt.state().tensors)
    if (!name.ends_with("/step")) all[name] = tensor;
  return all;
}

void expect_same_bits(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b,
                      const std::string& where) {
  ASSERT_EQ(a.size(), b.size()) << where;
  for (const auto& [name, tensor] : a) EXPECT_TRUE(at::equal(tensor, b.at(name))) << where << ": " << name;
}

TEST(FusedTwin, IsFoundForElementwiseRecipesOnly) {
  for (const Case& c : cases()) {
    const auto twin = fused_twin(recipe_of(c.toml));
    ASSERT_TRUE(twin) << c.name;
    EXPECT_EQ(twin->kernel, c.kernel) << c.name;
  }
  for (const char* other :
       {"recipe = 'muon'", "recipe = 'ademamix'", "recipe = 'c_adamw'", "recipe = 'c_lion'", "recipe = 'adam_mini'",
        "recipe = 'adamw'\ncautious = true", "recipe = 'adamw'\nretract = { form = 'project' }",
        "direction = { stage = 'lion_momentum' }", "direction = { stage = 'sign' }",
        "direction = { chain = [ { stage = 'scale_by_adam' }, { stage = 'sign' } ] }",
        "direction = { chain = [ { stage = 'scale_by_adam', beta1 = 0 }, { stage = 'heavy_ball' } ] }",
        "direction = { chain = [ { stage = 'sign' }, { stage = 'ema' } ] }",
        "direction = { chain = [ { stage = 'ema' }, { stage = 'sign' }, { stage = 'scale' } ] }"})
    EXPECT_FALSE(fused_twin(recipe_of(other))) << other;
}

TEST(FusedTwin, IsItsChain) {
  for (const Case& c : cases()) {
    const Recipe recipe = recipe_of(c.toml);
    for (const Isa isa : available_isas()) {
      auto again = model(at::kFloat);
      Optimizer reference(again, {{"any", recipe, 0.02}}, {.fused = false});
      Fused fused(recipe, at::kFloat, isa, kElementwisePiece);
      for (int64_t t = 1; t <= 5; ++t) {
        set_gradients(again, t);
        reference.step();
        fused.step(t, 0.02);
      }
      const auto expected = tensors_of(reference, again), got = fused.tensors();
      ASSERT_EQ(got.size(), expected.size()) << c.name;
      for (const auto& [name, tensor] : expected) {
        ASSERT_EQ(got.at(name).sizes(), tensor.sizes()) << c.name << " " << name;
        const double allowed = name.find('/') == std::string::npos ? 3e-7 : 2e-6;  // weights; state that sums to 10
        EXPECT_LE(at::cat({at::zeros(1), (got.at(name) - tensor).abs().flatten()}).max().item<double>(), allowed)
            << c.name << " " << enum_name(isa) << " " << name;
      }
    }
  }
}

/// A bfloat16 weight is rounded where the chain rounds it; an update that differs in its last place may tip a few.
TEST(FusedTwin, IsItsChainForBfloat16Weights) {
  for (const Case& c : cases()) {
    const Recipe recipe = recipe_of(c.toml);
    auto chained = model(at::kBFloat16);
    Optimizer chain(chained, {{"any", recipe, 0.02}}, {.fused = false});
    Fused fused(recipe, at::kBFloat16, this_isa(), kElementwisePiece);
    set_gradients(chained, 1);
    chain.step();
    fused.step(1, 0.02);
    int64_t different = 0;
    for (size_t i = 0; i < chained.size(); ++i) {
      const Tensor a = chained[i].tensor.detach(), b = fused.parameters[i].tensor.detach();
      different += a.ne(b).sum().item<int64_t>();
      EXPECT_TRUE(at::allclose(a.to(at::kFloat), b.to(at::kFloat), 0x1p-7, 1e-6)) << c.name;
    }
    EXPECT_LE(different, 6) << c.name;  // of 562
  }
}

TEST(FusedTwin, InstructionsPiecesAndThreadsDoNotChangeABit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const Case& c : cases()) {
      const Recipe recipe = recipe_of(c.toml);
      const auto result = [&](Isa isa, int64_t piece, int threads) {
        const Threads scope(threads);
        Fused fused(recipe, dtype, isa, piece);
        for (int64_t t = 1; t <= 3; ++t) fused.step(t, 0.02);
        return fused.tensors();
      };
      const auto expected = result(Isa::portable, kElementwisePiece, 1);
      for (const Isa isa : available_isas())
        for (const int64_t piece : {kElementwisePiece, int64_t{100}, int64_t{7}})
          for (const int threads : {1, 2})
            expect_same_bits(result(isa, piece, threads), expected, c.name + " " + std::string(enum_name(isa)));
    }
}

TEST(FusedTwin, ALargeTensorIsTheSameForAnyNumberOfThreads) {
  std::map<std::string, Tensor> results[3];
  for (int run = 0; run < 3; ++run) {
    const Threads scope(run == 0 ? 1 : run + 1);
    auto parameters = model(at::kFloat, {{3, kElementwisePiece}, {7}, {kElementwisePiece + 1}, {1000}});
    Optimizer opt(parameters, {{"any", recipe_of("recipe = 'adamw'"), 0.02}});
    for (int64_t t = 1; t <= 2; ++t) {
      set_gradients(parameters, t);
      opt.step();
    }
    results[run] = tensors_of(opt, parameters);
  }
  expect_same_bits(results[1], results[0], "2 threads");
  expect_same_bits(results[2], results[0], "3 threads");
}

TEST(FusedOptimizer, WatchingNowAndThenAndResumingChangeNoBit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const Case& c : cases()) {
      const std::vector<Route> routes{{"any", recipe_of(c.toml), 0.02}};
      auto straight = model(dtype), stopped = model(dtype);
      Optimizer a(straight, routes), b(stopped, routes);
      TensorFile saved;
      for (int64_t t = 1; t <= 3; ++t) {
        set_gradients(straight, t);
        set_gradients(stopped, t);
        a.step();
        b.step(1.0, t % 2 ? [](const UpdateView&) {} : std::function<void(const UpdateView&)>{});
      }
      saved = b.state();
      Optimizer resumed(stopped, routes);
      resumed.load_state(saved);
      for (int64_t t = 4; t <= 6; ++t) {
        set_gradients(straight, t);
        set_gradients(stopped, t);
        a.step(0.5);
        resumed.step(0.5, t % 2 ? [](const UpdateView&) {} : std::function<void(const UpdateView&)>{});
      }
      expect_same_bits(tensors_of(resumed, stopped), tensors_of(a, straight), c.name);
    }
}

TEST(FusedOptimizer, AWatcherSeesTheChainsUpdateAndRate) {
  for (const Case& c : cases()) {
    const std::vector<Route> routes{{"any", recipe_of(c.toml), 0.02}};
    std::map<std::string, Tensor> seen[2];
    for (const bool fused : {false, true}) {
      auto parameters = model(at::kFloat);
      Optimizer opt(parameters, routes, {.fused = fused});
      for (int64_t t = 1; t <= 2; ++t) {
        set_gradients(parameters, t);
        opt.step(0.5, [&](const UpdateView& view) {
          EXPECT_EQ(view.lr, 0.01);
          EXPECT_EQ(view.update.sizes(), at::IntArrayRef({view.parameter.rows(), view.parameter.cols()}));
          seen[fused][view.parameter.name] = view.update.clone();
        });
      }
    }
    ASSERT_EQ(seen[1].size(), seen[0].size());
    for (const auto& [name, update] : seen[0])
      EXPECT_TRUE(at::allclose(seen[1].at(name), update, 2e-6, 1e-6)) << c.name << " " << name;
  }
}

TEST(FusedOptimizer, AControllersDecayTakesThePlaceOfTheRecipes) {
  for (const char* toml : {"recipe = 'adamw'\nweight_decay = 0.1", "recipe = 'adam'\nweight_decay = 0.1",
                           "recipe = 'adamw'\nweight_decay = 0"}) {
    const std::vector<Route> routes{{"any", recipe_of(toml), 0.02}};
    auto fused = model(at::kFloat), chained = model(at::kFloat), plain = model(at::kFloat);
    Optimizer a(fused, routes), b(chained, routes, {.fused = false}), c(plain, routes);
    for (Optimizer* opt : {&a, &b}) opt->set_weight_decay("p0", 5.0);
    for (auto* parameters : {&fused, &chained, &plain}) set_gradients(*parameters, 1);
    for (Optimizer* opt : {&a, &b, &c}) opt->step();
    EXPECT_TRUE(at::allclose(fused[0].tensor, chained[0].tensor, 1e-6, 1e-7)) << toml;
    EXPECT_EQ(at::allclose(fused[0].tensor, plain[0].tensor, 1e-3, 1e-3), std::string(toml).ends_with("= 0")) << toml;
    EXPECT_TRUE(at::equal(fused[1].tensor, plain[1].tensor)) << toml;
  }
}

TEST(FusedOptimizer, TheLayoutOfAGradientDoesNotMatter) {
  const std::vector<Route> routes{{"any", recipe_of("recipe = 'adamw'"), 0.02}};
  auto plain = model(at::kFloat), turned = model(at::kFloat);
  Optimizer a(plain, routes), b(turned, routes);
  set_gradients(plain, 1);
  set_gradients(turned, 1);
  Tensor& g = turned[0].tensor.mutable_grad();
  g = g.t().contiguous().t();
  ASSERT_FALSE(g.is_contiguous());
  a.step();
  b.step();
  EXPECT_TRUE(at::equal(plain[0].tensor, turned[0].tensor));
}

TEST(FusedOptimizer, NaNOfAGradientSurfacesInTheWeight) {
  for (const Case& c : cases()) {
    auto parameters = model(at::kFloat);
    Optimizer opt(parameters, {{"any", recipe_of(c.toml), 0.02}});
    set_gradients(parameters, 1);
    parameters[0].tensor.mutable_grad()[3][4] = NAN;
    opt.step();
    const Tensor bad = parameters[0].tensor.detach().isnan();
    EXPECT_EQ(bad.sum().item<int64_t>(), 1) << c.name;
    EXPECT_TRUE(bad[3][4].item<bool>()) << c.name;
  }
}

TEST(FusedOptimizer, SaysWhichKernelStepsWhichRoute) {
  const std::string isa(enum_name(this_isa()));
  std::vector<Parameter> parameters = model(at::kFloat, {{12, 20}, {5, 5}, {16}, {3}});
  parameters[3].tensor = at::zeros({3}, at::kDouble).requires_grad_(true);
  const std::vector<Route> routes{{"hidden_matrix", recipe_of("recipe = 'muon'"), 0.02},
                                  {"p2", recipe_of("recipe = 'lion'"), 0.02},
                                  {"any", recipe_of("recipe = 'adamw'"), 0.02}};
  EXPECT_EQ(Optimizer(parameters, routes).kernels(),
            (std::vector<std::string>{"hidden_matrix -> muon: fused momentum, orthogonalize, step, " + isa,
                                      "p2 -> lion: fused lion, " + isa, "any -> adamw: stage by stage"}));
  EXPECT_EQ(Optimizer(parameters, routes, {.fused = false}).kernels()[1], "p2 -> lion: stage by stage");
  EXPECT_EQ(Optimizer(parameters, {{"any", recipe_of("recipe = 'adamw'"), 0.02}}).kernels(),
            (std::vector<std::string>{"any -> adamw: fused adam, " + isa + " for 3 of 4 parameters"}));
}

TEST(FusedOptimizer, OtherDtypesGoStageByStage) {
  const std::vector<Route> routes{{"any", recipe_of("recipe = 'adamw'"), 0.02}};
  for (const at::ScalarType dtype : {at::kDouble, at::kHalf}) {
    auto fused = model(dtype), chained = model(dtype);
    Optimizer a(fused, routes), b(chained, routes, {.fused = false});
    set_gradients(fused, 1);
    set_gradients(chained, 1);
    a.step();
    b.step();
    expect_same_bits(tensors_of(a, fused), tensors_of(b, chained), c10::toString(dtype));
  }
  auto wide = model(at::kFloat);
  EXPECT_EQ(Optimizer(wide, routes, {.state_dtype = at::kDouble}).kernels()[0], "any -> adamw: stage by stage");
}

TEST(FusedTasks, SmallOnesTogetherLargeOnesInPieces) {
  const FusedTwin nothing{"none", [](const FusedStep&, Isa, int64_t, int64_t) {}};
  const auto costs = [&](const std::vector<int64_t>& sizes) {
    std::vector<FusedJob> jobs;
    for (const int64_t n : sizes) jobs.push_back({&nothing, {.param = at::empty({n})}});
    std::vector<Task> tasks;
    add_fused_tasks(tasks, std::move(jobs), Isa::portable, 100);
    std::vector<double> all;
    for (const Task& t : tasks) all.push_back(t.cost / 10);
    return all;
  };
  EXPECT_EQ(costs({}), (std::vector<double>{}));
  EXPECT_EQ(costs({0, 0}), (std::vector<double>{}));
  EXPECT_EQ(costs({10, 20, 30, 40}), (std::vector<double>{100}));
  EXPECT_EQ(costs({10, 20, 30, 41}), (std::vector<double>{60, 41}));
  EXPECT_EQ(costs({250, 30, 30}), (std::vector<double>{100, 100, 80, 30}));
}

}  // namespace
}  // namespace schatten
