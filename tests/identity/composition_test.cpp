// Parts from different papers together: what a config can say, runs, keeps what the plan says, and resumes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>

namespace schatten {
namespace {

constexpr const char* kCautiousHtmuonInSubspace = R"(
name = "cautious HTMuon in a subspace"
decay = { form = "decoupled", weight_decay = 0.1 }
[direction]
stage = "in_subspace"
rank = 4
refresh_every = 3
inner.chain = [{ stage = "ema", beta = 0.95, nesterov = true }, { stage = "spectral_power" }, { stage = "cautious" }]
)";
constexpr const char* kRotatedLion = R"(
name = "Lion in SOAP's eigenbasis"
direction = { stage = "in_eigenbasis", every = 3, inner = { stage = "lion_momentum" } }
)";
constexpr const char* kSubspaceOnTheSphere = R"(
name = "GaLore on the sphere"
recipe = "galore"
retract = { form = "tangent", axis = "rows", every = 2 }
cautious = true
)";

std::vector<Parameter> matrices() {
  std::vector<Parameter> all;
  for (const auto& shape : std::vector<std::vector<int64_t>>{{12, 20}, {24, 16}}) {
    const auto i = static_cast<int64_t>(all.size());
    const Tensor w = Rng(41).at(i).normal(shape, at::kFloat).requires_grad_(true);
    all.push_back({infer_parameter("w" + std::to_string(i), w, i), w});
  }
  return all;
}

Recipe recipe_of(std::string toml) {
  Value table = parse_toml(toml);
  if (!table.find("recipe")) return make_recipe(table);
  Value named = Value::table();
  for (const auto& [key, value] : table.as_table())
    if (key != "name") named[key] = value;
  return make_recipe(named);
}

/// Steps t = from .. to with gradients that are a function of t.
void run(Optimizer& optimizer, const std::vector<Parameter>& parameters, int64_t from, int64_t to) {
  for (int64_t t = from; t <= to; ++t) {
    for (const Parameter& p : parameters)
      p.tensor.mutable_grad() = Rng(43).at(t).at(p.info.index).normal(p.info.shape, at::kFloat);
    optimizer.step();
  }
}

class Composition : public ::testing::TestWithParam<const char*> {};

TEST_P(Composition, RunsResumesPrintsItselfAndKeepsWhatThePlanSays) {
  const Recipe recipe = recipe_of(GetParam());
  EXPECT_EQ(to_json(to_value(make_recipe(to_value(recipe)))), to_json(to_value(recipe)));
  const auto straight = matrices(), stopped = matrices();
  Optimizer a(straight, {{"any", recipe, 0.02}}), b(stopped, {{"any", recipe, 0.02}});
  EXPECT_EQ(a.state_bytes(),
            plan_state_bytes({straight[0].info, straight[1].info}, {{"any", recipe, 0.02}}, at::kFloat));
  run(a, straight, 1, 8);
  run(b, stopped, 1, 4);
  Optimizer c(stopped, {{"any", recipe, 0.02}});
  c.load_state(b.state());
  run(c, stopped, 5, 8);
  for (size_t i = 0; i < straight.size(); ++i) {
    EXPECT_TRUE(straight[i].tensor.isfinite().all().item<bool>());
    EXPECT_TRUE(at::equal(straight[i].tensor, stopped[i].tensor));
    EXPECT_FALSE(at::equal(straight[i].tensor, matrices()[i].tensor));
  }
}
INSTANTIATE_TEST_SUITE_P(Examples, Composition,
                         ::testing::Values(kCautiousHtmuonInSubspace, kRotatedLion, kSubspaceOnTheSphere),
                         [](const auto& info) { return "example" + std::to_string(info.index); });

TEST(Composition, TheSubspaceKeepsRankTimesLongSideAndTheBasis) {
  const Recipe recipe = recipe_of(kCautiousHtmuonInSubspace);
  const auto all = matrices();
  Optimizer optimizer(all, {{"any", recipe, 0.02}});
  EXPECT_EQ(optimizer.state_bytes(), 4 * ((4 * 20 + 12 * 4) + (24 * 4 + 16 * 4)));  // r n + m r floats each
}

TEST(Composition, TheMaskLooksAtTheProjectedGradient) {
  // All of the update lies in the subspace, and no entry of it there goes against the projected gradient.
  const auto all = matrices();
  Recipe recipe = recipe_of(kCautiousHtmuonInSubspace);
  recipe.decay = {};
  Optimizer optimizer(all, {{"any", recipe, 1.0}});
  const Tensor before = all[0].tensor.detach().clone();
  run(optimizer, all, 1, 1);
  const Tensor moved = before - all[0].tensor.detach(), basis = optimizer.slot("w0", "P");
  EXPECT_LT((moved - at::mm(basis, at::mm(basis.mT(), moved))).norm().item<double>(),
            1e-4 * moved.norm().item<double>());
  const Tensor inside = at::mm(basis.mT(), moved), projected = at::mm(basis.mT(), all[0].tensor.grad());
  EXPECT_GT((inside * projected).min().item<double>(), -1e-5);
}

/// The message of a recipe that cannot be built for a 12 x 20 matrix; "" when it can.
std::string refusal(const std::string& toml) {
  try {
    const auto all = matrices();
    Optimizer(all, {{"any", make_recipe(parse_toml(toml)), 0.1}});
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(Composition, WhatCannotBeIsRefusedWithWhoAndWhy) {
  const std::pair<const char*, const char*> bad[] = {
      {"recipe = \"galore\"\nrank = 13", "13"},
      {"recipe = \"galore\"\nrefresh_every = 0", "refresh_every"},
      {"recipe = \"gum\"\nperiod = 0", "period"},
      {"recipe = \"gum\"\nprobability = 1.0", "probability"},
      {"recipe = \"gum\"\nprobability = 0.0", "probability"},
      {"recipe = \"htmuon\"\npower = 1.5", "power"},
      {"recipe = \"htmuon\"\nevery = 0", "every"},
      {"recipe = \"lion_muon\"\nevery = 0", "every"},
      {"recipe = \"dion\"\nrank = 100", "100"},
      {"direction = { stage = \"orthogonalize\", coefficients = [[3.0, 4.0, 5.0]] }", "step 1"},
      {"recipe = \"muon\"\nmomentum = 1.0", "momentum"},
      {"recipe = \"muon\"\ncontrollers = [{ controller = \"qk_clap\" }]", "qk_clip"},
      {"recipe = \"muonn\"", "muon"},
  };
  for (const auto& [toml, word] : bad) {
    const std::string said = refusal(toml);
    EXPECT_NE(said.find(word), std::string::npos) << toml << "\n  said: " << said;
  }
}

}  // namespace
}  // namespace schatten
