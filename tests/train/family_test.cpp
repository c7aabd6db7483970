// Every recipe by name in a real run: trains, stops, goes on with the same bits; and the protocols around it.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <schatten/core/files.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>
#include <schatten/train/checkpoint.h>
#include <schatten/train/protocols.h>
#include <schatten/train/trainer.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "train/support.h"

namespace schatten {
namespace {

namespace fs = std::filesystem;

/// Says nothing; stops the run after a step where asked to.
struct Quiet final : Reporter {
  std::atomic<bool> stop{false};
  int64_t stop_after = -1;
  void on_step(const StepNumbers& report) override {
    if (report.step == stop_after) stop = true;
  }
};

class Family : public ::testing::Test {
 protected:
  Family() : folder_(fs::temp_directory_path() / ("schatten-family-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += "line " + std::to_string(i) + ": the quick brown fox " + std::to_string(i * i) + "\n";
    std::ofstream(folder_ / "text.txt") << text;
  }
  ~Family() override { fs::remove_all(folder_); }

  RunConfig config(const std::string& toml, const std::string& name = "run") const {
    Value table = parse_toml(R"(
model = { preset = "llama-tiny", layers = 1, width = 32, heads = 2, kv_heads = 2, ffn = 48, context = 16 }
data = { batch = 4, eval_batches = 1 }
train = { steps = 6, eval_every = 0, log_every = 3, sample_length = 0 })");
    merge(table, parse_toml(toml));
    table["data"]["source"] = "text:" + (folder_ / "text.txt").string();
    table["run_dir"] = (folder_ / name).string();
    return read_run_config(table);
  }
  TrainResult run(const RunConfig& c, Start start = Start::fresh, int64_t stop_after = -1) const {
    Quiet quiet;
    quiet.stop_after = stop_after;
    return train(c, {.start = start}, quiet, quiet.stop);
  }
  /// Weights and state after a straight run and after one that was stopped in the middle.
  void expect_resume_is_bitwise(const std::string& toml) const {
    const TrainResult straight = run(config(toml, "straight"));
    EXPECT_EQ(straight.status, "ok") << toml;
    EXPECT_EQ(run(config(toml, "stopped"), Start::fresh, 3).status, "interrupted");
    EXPECT_EQ(run(config(toml, "stopped"), Start::resume).status, "ok");
    const Checkpoint a = load_checkpoint(*latest_checkpoint(folder_ / "straight"));
    const Checkpoint b = load_checkpoint(*latest_checkpoint(folder_ / "stopped"));
    for (const auto& [name, tensor] : a.model.tensors) {
      EXPECT_TRUE(at::equal(tensor, b.model.at(name))) << name << " with " << toml;
      EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name << " with " << toml;
    }
    for (const auto& [name, tensor] : a.optimizer.tensors) EXPECT_TRUE(at::equal(tensor, b.optimizer.at(name))) << name;
    ASSERT_EQ(a.average.has_value(), b.average.has_value());
    for (const auto& [name, tensor] : a.average.value_or(TensorFile{}).tensors)
      EXPECT_TRUE(at::equal(tensor, b.average->at(name))) << name;
    fs::remove_all(folder_ / "straight");
    fs::remove_all(folder_ / "stopped");
  }
  fs::path folder_;
};

std::string matrix_recipe(const std::string& name) {
  return "optimizer.matrix = { recipe = \"" + name + "\", lr = 0.003 }\n";
}

class FamilyRecipe : public Family, public ::testing::WithParamInterface<std::string> {};

TEST_P(FamilyRecipe, TrainsByNameInEveryDtypeAndResumesBitwise) {
  for (const char* dtype : {"float32", "bfloat16", "float64"})
    expect_resume_is_bitwise(matrix_recipe(GetParam()) + "train.dtype = \"" + dtype + "\"\n");
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const RecipeInfo& r : recipe_registry()) all.push_back(r.name);
  return all;
}
INSTANTIATE_TEST_SUITE_P(Recipes, FamilyRecipe, ::testing::ValuesIn(names()), [](const auto& i) { return i.param; });

TEST_F(Family, ProtocolsResumeBitwise) {
  const std::string adamw = matrix_recipe("adamw");
  for (const std::string& protocol :
       {std::string("optimizer.sam = { rho = 0.05 }"), std::string("optimizer.sam = { rho = 0.5, adaptive = true }"),
        std::string("optimizer.average = 0.9")})
    expect_resume_is_bitwise(adamw + protocol);
}

// The examples of docs/recipes.md on models: NorMuon with MuonClip's controller on an nGPT whose rows stay unit, ...
TEST_F(Family, NormuonWithQkClipOnAnNgpt) {
  const std::string toml = R"(
model = { preset = "ngpt-tiny", layers = 2, width = 32, heads = 2, kv_heads = 2, ffn = 48, context = 16 }
optimizer.matrix = { recipe = "normuon", lr = 0.02, retract = { form = "project", every = 2 }, controllers = [{ controller = "qk_clip", tau = 2.0 }] }
)";
  expect_resume_is_bitwise(toml);
  run(config(toml, "one"));
  const Checkpoint c = load_checkpoint(*latest_checkpoint(folder_ / "one"));  // after 6 steps: a projected one
  const Tensor query = c.model.at("transformer.h.0.query.weight").to(at::kDouble);
  const Tensor down = c.model.at("transformer.h.0.mlp_c_proj.weight").to(at::kDouble);
  EXPECT_LT((down.norm(2, {0}) - 1).abs().max().item<double>(), 1e-6);
  EXPECT_LE((query.norm(2, {1}) - 1).max().item<double>(), 1e-6);  // a clip comes after the projection, and shortens
}

// ... and the retraction that a model with unit rows gets where the config says nothing.
TEST_F(Family, AnNgptStaysOnTheSphereWithoutBeingTold) {
  run(config("model = { preset = \"ngpt-tiny\", layers = 1, width = 32, heads = 2, ffn = 48, context = 16 }", "one"));
  const Checkpoint c = load_checkpoint(*latest_checkpoint(folder_ / "one"));
  for (const char* rows : {"transformer.wte.weight", "lm_head.weight", "transformer.h.0.query.weight"})
    EXPECT_LT((c.model.at(rows).norm(2, {1}) - 1).abs().max().item<double>(), 1e-6) << rows;
}

TEST_F(Family, AnEvaluationBetweenStepsDoesNotChangeWhatIsClipped) {
  const std::string clipped =
      "optimizer.matrix = { recipe = \"muonclip\", lr = 0.01, clip.tau = 1e-4 }\n";  // every head, at every step
  const auto end = [&](const std::string& toml) {
    run(config(clipped + toml, "one"));
    const Checkpoint c = load_checkpoint(*latest_checkpoint(folder_ / "one"));
    fs::remove_all(folder_ / "one");
    return c.model.at("model.layers.0.self_attn.q_proj.weight").clone();
  };
  EXPECT_TRUE(at::equal(end("train.eval_every = 1"), end("train.eval_every = 0")));
}

TEST_F(Family, SamChangesTheRunAndRhoZeroDoesNot) {
  const auto end = [&](const std::string& toml) {
    run(config(matrix_recipe("adamw") + toml, "one"));
    Checkpoint c = load_checkpoint(*latest_checkpoint(folder_ / "one"));
    fs::remove_all(folder_ / "one");
    return c.model.tensors.front().second.clone();
  };
  const Tensor plain = end("");
  EXPECT_TRUE(at::equal(plain, end("optimizer.sam = { rho = 0.0 }")));
  EXPECT_FALSE(at::equal(plain, end("optimizer.sam = { rho = 0.05 }")));
}

// --- the protocols themselves ---

std::vector<Parameter> quadratic(at::ScalarType dtype = at::kDouble) {
  const Tensor w = Rng(5).normal({6, 8}, dtype).requires_grad_(true);
  return {{infer_parameter("w", w, 0), w}};
}

TEST(Protocols, HutchinsonOfAQuadraticIsItsDiagonalOnAverage) {
  // f(W) = 1/2 sum h W^2: u * (H u) = h exactly, whatever the signs.
  const auto parameters = quadratic();
  const Tensor h = at::arange(1, 49, at::kDouble).view({6, 8}), before = parameters[0].tensor.detach().clone();
  hutchinson_gradients(parameters, [&] { (parameters[0].tensor.square() * h * 0.5).sum().backward(); }, Rng(1));
  EXPECT_TRUE(at::allclose(parameters[0].tensor.grad(), h, 1e-8, 1e-8));
  EXPECT_TRUE(at::equal(parameters[0].tensor, before));  // bit for bit
}

TEST(Protocols, HutchinsonRestoresTheWeightsWhenTheGradientThrows) {
  const auto parameters = quadratic();
  const Tensor before = parameters[0].tensor.detach().clone();
  EXPECT_THROW(hutchinson_gradients(parameters, [] { throw Error("no gradient today"); }, Rng(1)), Error);
  EXPECT_TRUE(at::equal(parameters[0].tensor, before));
}

TEST(Protocols, AveragedWeightsFollowAndSwapBack) {
  const auto parameters = quadratic();
  WeightAverage average(parameters, 0.9);
  Tensor expected = parameters[0].tensor.detach().clone();
  for (int t = 1; t <= 30; ++t) {
    {
      const at::NoGradGuard no_grad;
      parameters[0].tensor.add_(0.1);
    }
    average.update();
    const double d = std::min(0.9, (1.0 + t) / (10.0 + t));
    expected = expected * d + parameters[0].tensor.detach() * (1 - d);
  }
  const Tensor weights = parameters[0].tensor.detach().clone();
  average.swap();
  EXPECT_TRUE(at::allclose(parameters[0].tensor, expected, 1e-12, 1e-12));
  EXPECT_FALSE(at::allclose(expected, weights, 1e-3, 1e-3));
  average.swap();
  EXPECT_TRUE(at::equal(parameters[0].tensor, weights));
  WeightAverage other(parameters, 0.9);
  other.load_state(average.state());
  EXPECT_TRUE(at::equal(other.state().tensors[0].second, average.state().tensors[0].second));
}

}  // namespace
}  // namespace schatten
