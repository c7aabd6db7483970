// Matrix twins: which recipes have one, that each is its chain to the rounding of the compute dtype, for every instruction
// set, and that watching changes nothing.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/fused_matrix.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace schatten {
namespace {

Recipe recipe_of(const std::string& toml) { return make_recipe(parse_toml(toml)); }

struct Case {
  std::string name, toml;
  double tolerance;  // of W, relative to what five steps moved, against the chain
};

std::vector<Case> cases() {
  return {{"muon_float32", "recipe = 'muon'\npolar = { compute = 'float32' }", 2e-4},
          {"muon_bfloat16", "recipe = 'muon'\npolar = { compute = 'bfloat16' }", 3e-2},
          {"muon_x2", "recipe = 'muon'\npolar = { compute = 'bfloat16x2' }", 2e-3},
          {"moonlight", "recipe = 'muon'\nvariant = 'moonlight'\npolar = { compute = 'float32' }", 2e-4},
          {"textbook", "recipe = 'muon'\npolar = { compute = 'float32', iteration = 'textbook' }", 2e-4},
          {"aol", "recipe = 'muon'\npolar = { compute = 'float32', schedule = 'aol_a' }", 2e-4},
          {"after", "recipe = 'muon'\npolar = { compute = 'float32' }\nweight_decay = 0.3\ndecay = 'after'", 2e-4},
          {"htmuon", "recipe = 'htmuon'\nmethod = 'eigh'", 2e-4},
          {"normuon", "recipe = 'normuon'\npolar = { compute = 'float32' }", 2e-4}};
}

std::vector<Parameter> model(at::ScalarType dtype) {
  std::vector<Parameter> parameters;
  const std::vector<std::vector<int64_t>> shapes{{48, 80}, {80, 48}, {40, 40}, {8, 4, 3, 3}, {1, 9}};
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Tensor w = Rng(21).of("init").at(static_cast<int64_t>(i)).normal(shapes[i], dtype).requires_grad_(true);
    parameters.push_back({infer_parameter("p" + std::to_string(i), w, static_cast<int64_t>(i)), w});
  }
  return parameters;
}

void set_gradients(std::vector<Parameter>& parameters, int64_t step) {
  for (Parameter& p : parameters)
    p.tensor.mutable_grad() = Rng(23).at(step).at(p.info.index).normal(p.info.shape, p.tensor.scalar_type());
}

struct Outcome {
  std::map<std::string, Tensor> weights, state;
  std::vector<double> rates;
  std::map<std::string, Tensor> updates;
};

Outcome after_steps(const Recipe& recipe, at::ScalarType dtype, OptimizerOptions options, bool watched = false) {
  std::vector<Parameter> parameters = model(dtype);
  Optimizer optimizer(parameters, {{"any", recipe, 0.02}}, options);
  Outcome out;
  for (int64_t t = 1; t <= 5; ++t) {
    set_gradients(parameters, t);
    if (!watched) optimizer.step();
    else
      optimizer.step(1, [&](const UpdateView& view) {
        out.rates.push_back(view.lr);
        out.updates[view.parameter.name] = view.update.clone();
      });
  }
  for (const Parameter& p : parameters) out.weights[p.info.name] = p.tensor.detach().clone();
  const TensorFile file = optimizer.state();
  for (const auto& [name, tensor] : file.tensors)
    if (tensor.is_floating_point()) out.state[name] = tensor.clone();
  return out;
}

double difference(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  double largest = 0;
  for (const auto& [name, tensor] : a) largest = std::max(largest, (tensor - b.at(name)).abs().max().item<double>());
  return largest;
}

TEST(FusedMatrix, IsTheChainOnEveryInstructionSet) {
  for (const Case& c : cases()) {
    const Recipe recipe = recipe_of(c.toml);
    ASSERT_TRUE(MatrixTwin::of(recipe)) << c.name;
    for (const Isa isa : available_isas()) {
      if (isa == Isa::portable && c.name == "muon_bfloat16") continue;
      const Outcome fused = after_steps(recipe, at::kFloat, {.isa = isa});
      const Outcome chained = after_steps(recipe, at::kFloat, {.fused = false, .isa = isa});
      EXPECT_LT(difference(fused.weights, chained.weights), 0.1 * c.tolerance) << c.name << " " << enum_name(isa);
      EXPECT_LT(difference(fused.state, chained.state), 1e-5) << c.name << " " << enum_name(isa);
    }
  }
}

TEST(FusedMatrix, WatchingChangesNoBitAndShowsWhatWasDone) {
  for (const Case& c : cases())
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Recipe recipe = recipe_of(c.toml);
      const Outcome blind = after_steps(recipe, dtype, {}), seen = after_steps(recipe, dtype, {}, true);
      EXPECT_EQ(difference(blind.weights, seen.weights), 0) << c.name;
      EXPECT_EQ(difference(blind.state, seen.state), 0) << c.name;
      EXPECT_EQ(seen.rates.size(), 25u) << c.name;
      for (const double rate : seen.rates) EXPECT_EQ(rate, 0.02) << c.name;
      const Outcome chained = after_steps(recipe, dtype, {.fused = false}, true);
      const double size = chained.updates.at("p0").abs().max().item<double>();
      if (dtype != at::kFloat) continue;
      EXPECT_LT(difference(seen.updates, chained.updates), 10 * c.tolerance * size) << c.name;
    }
}

TEST(FusedMatrix, OthersGoStageByStage) {
  for (const char* toml : {"recipe = 'adamw'", "recipe = 'soap'", "recipe = 'galore'", "recipe = 'lion_muon'",
                           "recipe = 'muon'\ncautious = true", "recipe = 'muon'\nretract = { form = 'project' }",
                           "recipe = 'muon'\nsplit = 'heads'\ndecay = "
                           "'coupled'\nweight_decay = 0.1"})
    EXPECT_FALSE(MatrixTwin::of(recipe_of(toml))) << toml;
  const Recipe muon = recipe_of("recipe = 'muon'\npolar = { compute = 'float64' }");
  const Outcome fused = after_steps(muon, at::kDouble, {}), chained = after_steps(muon, at::kDouble, {.fused = false});
  EXPECT_EQ(difference(fused.weights, chained.weights), 0);
}

TEST(FusedMatrix, NaNSurfacesAndStaysWhereItIs) {
  std::vector<Parameter> parameters = model(at::kFloat);
  Optimizer optimizer(parameters, {{"any", recipe_of("recipe = 'muon'"), 0.02}});
  set_gradients(parameters, 1);
  parameters[0].tensor.grad().view({-1})[7] = NAN;
  optimizer.step();
  EXPECT_TRUE(parameters[0].tensor.isnan().all().item<bool>());
  for (size_t i = 1; i < parameters.size(); ++i) EXPECT_TRUE(parameters[i].tensor.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace schatten
