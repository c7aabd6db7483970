// Laws: what every registered stage and recipe obeys, without a line of test code of its own.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/registry.h>

#include <cmath>

namespace schatten {
namespace {

struct Shape {
  const char* name;
  int64_t rows, cols;
};
constexpr Shape kShapes[] = {{"wide", 12, 20},  {"tall", 20, 12}, {"square", 16, 16},
                             {"prime", 13, 17}, {"row", 1, 9},    {"column", 9, 1}};

ParameterInfo info_of(int64_t rows, int64_t cols, std::string name = "w") {
  return {.name = std::move(name), .shape = {rows, cols}};
}

Tensor random_matrix(int64_t rows, int64_t cols, at::ScalarType dtype, int64_t draw = 0) {
  return Rng(7).of("law").at(draw).normal({rows, cols}, dtype);
}

Stage stage_named(const std::string& name) { return make_stage(Value::Table{{"stage", name}}); }
Recipe recipe_named(const std::string& name) { return make_recipe(Value::Table{{"recipe", name}}); }

/// One stage on one parameter, stepped by hand.
struct Stepper {
  Stage stage;
  ParameterInfo info;
  at::ScalarType dtype;
  State state;
  int64_t step = 0;

  Stepper(Stage s, ParameterInfo i, at::ScalarType d) : stage(std::move(s)), info(std::move(i)), dtype(d) {
    const Bucket bucket = bucket_of(info, dtype);
    state = State(stage.state(bucket), bucket);
  }
  /// Zeros where the stage says: no update this step.
  Tensor operator()(const Tensor& u) {
    const Step now{.step = ++step, .lr = 0.01, .parameter = info, .grad = u, .param = at::zeros_like(u), .rng = Rng(3)};
    const Tensor out = stage.apply(u, state, now);
    return out.defined() ? out : at::zeros_like(u);
  }
};

class StageLaw : public ::testing::TestWithParam<std::string> {
 protected:
  Stage stage() const { return stage_named(GetParam()); }
};

TEST_P(StageLaw, KeepsShapeAndDtypeAndLeavesItsInputAlone) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble})
    for (const Shape& s : kShapes) {
      Stepper run(stage(), info_of(s.rows, s.cols), dtype);
      for (int64_t t = 0; t < 3; ++t) {
        const Tensor u = random_matrix(s.rows, s.cols, dtype, t), before = u.clone();
        const Tensor out = run(u);
        EXPECT_EQ(out.sizes(), u.sizes()) << s.name;
        EXPECT_EQ(out.scalar_type(), dtype) << s.name;
        EXPECT_TRUE(at::equal(u, before)) << s.name;
        EXPECT_TRUE(out.isfinite().all().item<bool>()) << s.name;
      }
    }
}

TEST_P(StageLaw, ResultAliasesNeitherInputNorState) {
  Stepper run(stage(), info_of(12, 20), at::kFloat);
  for (int64_t t = 0; t < 3; ++t) {
    const Tensor u = random_matrix(12, 20, at::kFloat, t);
    const Tensor out = run(u);
    EXPECT_FALSE(out.is_alias_of(u));
    run.state.each([&](const std::string& path, const Tensor& slot) { EXPECT_FALSE(out.is_alias_of(slot)) << path; });
  }
}

TEST_P(StageLaw, SameInputGivesSameBits) {
  Stepper a(stage(), info_of(12, 20), at::kFloat), b(stage(), info_of(12, 20), at::kFloat);
  for (int64_t t = 0; t < 3; ++t) {
    const Tensor u = random_matrix(12, 20, at::kFloat, t);
    EXPECT_TRUE(at::equal(a(u), b(u)));
  }
}

TEST_P(StageLaw, PlannedBytesAreAllocatedBytes) {
  for (const Shape& s : kShapes) {
    const ParameterInfo info = info_of(s.rows, s.cols);
    const Bucket bucket = bucket_of(info, at::kFloat);
    State state(stage().state(bucket), bucket);
    int64_t bytes = 0;
    state.each([&](const std::string&, const Tensor& t) { bytes += static_cast<int64_t>(t.nbytes()); });
    EXPECT_EQ(bytes, state_bytes(stage().state(bucket), bucket)) << s.name;
  }
}

using BatchedStageLaw = StageLaw;  // of those that do not say: one matrix at a time
TEST_P(BatchedStageLaw, IsSingleToRounding) {
  const int64_t count = 3;
  const ParameterInfo info = info_of(12, 20);
  std::vector<Stepper> singles(count, Stepper(stage(), info, at::kDouble));
  for (Stepper& s : singles) s = Stepper(stage(), info, at::kDouble);
  // State with a leading dimension, as an accelerator would hold it.
  State batched = singles[0].state.viewed([&](const Tensor& t) { return at::stack(std::vector<Tensor>(count, t)); });
  for (int64_t t = 0; t < 3; ++t) {
    std::vector<Tensor> inputs, outputs;
    for (int64_t i = 0; i < count; ++i) {
      inputs.push_back(random_matrix(12, 20, at::kDouble, 10 * t + i));
      outputs.push_back(singles[static_cast<size_t>(i)](inputs.back()));
    }
    const Tensor u = at::stack(inputs), expected = at::stack(outputs);
    const Step now{.step = t + 1, .lr = 0.01, .parameter = info, .grad = u, .param = at::zeros_like(u), .rng = Rng(3)};
    const Tensor out = stage().apply(u, batched, now);
    EXPECT_TRUE(at::allclose(out.defined() ? out : at::zeros_like(u), expected, 1e-9, 1e-11));
  }
}

TEST_P(StageLaw, DegenerateInputsStayFinite) {
  for (const Shape& s : kShapes) {
    const Tensor column = random_matrix(s.rows, 1, at::kFloat, 1), row = random_matrix(1, s.cols, at::kFloat, 2);
    const std::pair<const char*, Tensor> inputs[] = {{"zero", at::zeros({s.rows, s.cols})},
                                                     {"tiny", random_matrix(s.rows, s.cols, at::kFloat) * 1e-30},
                                                     {"rank one", at::mm(column, row)}};
    for (const auto& [what, u] : inputs) {
      Stepper run(stage(), info_of(s.rows, s.cols), at::kFloat);
      EXPECT_TRUE(run(u).isfinite().all().item<bool>()) << what << ", " << s.name;
      EXPECT_TRUE(run(u).isfinite().all().item<bool>()) << what << ", " << s.name << ", second step";
    }
  }
}

TEST_P(StageLaw, NaNSurfaces) {
  Tensor u = random_matrix(12, 20, at::kFloat);
  u[3][4] = NAN;
  Stepper run(stage(), info_of(12, 20), at::kFloat);
  run(random_matrix(12, 20, at::kFloat));  // the first step may only set up
  EXPECT_FALSE(run(u).isfinite().all().item<bool>());
}

TEST_P(StageLaw, PrintsItselfBack) {
  const Value printed = stage().to_value();
  EXPECT_EQ(to_json(make_stage(printed).to_value()), to_json(printed));
  EXPECT_EQ(to_json(make_stage(parse_toml(to_toml(printed))).to_value()), to_json(printed));
}

using ElementwiseStageLaw = StageLaw;
TEST_P(ElementwiseStageLaw, PiecesDoNotMatter) {
  Stepper whole(stage(), info_of(4, 64), at::kFloat);
  Stepper piece(stage(), info_of(4, 64), at::kFloat);
  for (int64_t t = 0; t < 3; ++t) {
    const Tensor u = random_matrix(4, 64, at::kFloat, t), expected = whole(u);
    State part = piece.state.viewed([](const Tensor& s) { return s.view({1, 256}).narrow(1, 64, 128); });
    const Tensor view = u.view({1, 256}).narrow(1, 64, 128);
    const Step now{
        .step = t + 1, .lr = 0.01, .parameter = piece.info, .grad = view, .param = at::zeros_like(view), .rng = Rng(3)};
    EXPECT_TRUE(at::equal(piece.stage.apply(view, part, now), expected.view({1, 256}).narrow(1, 64, 128)));
  }
}

std::vector<std::string> stage_names() {
  std::vector<std::string> names;
  for (const StageInfo& s : stage_registry()) names.push_back(s.name);
  return names;
}
const auto print_name = [](const auto& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Stages, StageLaw, ::testing::ValuesIn(stage_names()), print_name);

std::vector<std::string> batched_stage_names() {
  std::vector<std::string> names = stage_names();
  std::erase_if(names, [](const std::string& n) { return !stage_named(n).traits().batches; });
  return names;
}
INSTANTIATE_TEST_SUITE_P(Stages, BatchedStageLaw, ::testing::ValuesIn(batched_stage_names()), print_name);

std::vector<std::string> elementwise_stage_names() {
  std::vector<std::string> names = stage_names();
  std::erase_if(names, [](const std::string& n) { return stage_named(n).traits().locality != Locality::elementwise; });
  return names;
}
INSTANTIATE_TEST_SUITE_P(Stages, ElementwiseStageLaw, ::testing::ValuesIn(elementwise_stage_names()), print_name);

// --- recipes, through the engine ---

std::vector<Parameter> small_model(at::ScalarType dtype) {
  std::vector<Parameter> parameters;
  const std::vector<std::vector<int64_t>> shapes{{12, 20}, {20, 12}, {16}, {8, 4, 3, 3}, {1, 9}};
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

class RecipeLaw : public ::testing::TestWithParam<std::string> {
 protected:
  Recipe recipe() const { return recipe_named(GetParam()); }
  /// Vectors go to AdamW where the recipe is one of matrices.
  std::vector<Route> routes() const { return routes_of(recipe()); }
  static std::vector<Route> routes_of(const Recipe& r) {
    if (r.direction.traits().takes_vectors) return {{"any", r, 0.02}};
    return {{"gain", recipe_named("adamw"), 0.02}, {"any", r, 0.02}};
  }
  Optimizer optimizer(const std::vector<Parameter>& p) const { return Optimizer(p, routes(), {.seed = 5}); }
};

void step(Optimizer& opt) {
  for (const std::string& what : opt.wants()) opt.observe(what, -1, at::full({1}, 1.0));
  opt.step();
}

TEST_P(RecipeLaw, MovesEveryParameterThatHasAGradientAndNoOther) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    auto parameters = small_model(dtype);
    Optimizer opt = optimizer(parameters);
    std::vector<Tensor> before;
    for (const Parameter& p : parameters) before.push_back(p.tensor.detach().clone());
    for (int64_t t = 1; t <= 2; ++t) {  // the first step may only set up
      set_gradients(parameters, t);
      parameters[1].tensor.mutable_grad().reset();
      step(opt);
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_EQ(at::equal(parameters[i].tensor, before[i]), i == 1) << parameters[i].info.name << " " << dtype;
      EXPECT_TRUE(parameters[i].tensor.isfinite().all().item<bool>());
      EXPECT_EQ(parameters[i].tensor.scalar_type(), dtype);
    }
  }
}

TEST_P(RecipeLaw, SavedAtKAndResumedIsUninterrupted) {
  auto straight = small_model(at::kFloat), stopped = small_model(at::kFloat);
  Optimizer a = optimizer(straight);
  TensorFile saved;
  {
    Optimizer b = optimizer(stopped);
    for (int64_t t = 1; t <= 6; ++t) {
      set_gradients(straight, t);
      step(a);
      if (t > 3) continue;
      set_gradients(stopped, t);
      step(b);
    }
    saved = b.state();
  }
  Optimizer c = optimizer(stopped);
  c.load_state(saved);
  for (int64_t t = 4; t <= 6; ++t) {
    set_gradients(stopped, t);
    step(c);
  }
  for (size_t i = 0; i < straight.size(); ++i) EXPECT_TRUE(at::equal(straight[i].tensor, stopped[i].tensor)) << i;
  const TensorFile x = a.state(), y = c.state();
  for (const auto& [name, tensor] : x.tensors) EXPECT_TRUE(at::equal(tensor, y.at(name))) << name;
}

TEST_P(RecipeLaw, ForeignStateIsRefusedAndChangesNothing) {
  auto parameters = small_model(at::kFloat);
  Optimizer opt = optimizer(parameters);
  set_gradients(parameters, 1);
  step(opt);
  const TensorFile before = opt.state();
  TensorFile wrong = before;
  if (wrong.tensors.size() > parameters.size()) {  // a slot of another shape
    for (auto& [name, tensor] : wrong.tensors)
      if (!name.ends_with("/step")) tensor = at::zeros({2, 2});
  } else {
    wrong.tensors.pop_back();
  }
  EXPECT_THROW(opt.load_state(wrong), Error);
  const TensorFile after = opt.state();
  for (const auto& [name, tensor] : before.tensors) EXPECT_TRUE(at::equal(tensor, after.at(name))) << name;
}

TEST_P(RecipeLaw, PlannedStateIsAllocatedState) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto parameters = small_model(dtype);
    std::vector<ParameterInfo> infos;
    for (const Parameter& p : parameters) infos.push_back(p.info);
    EXPECT_EQ(plan_state_bytes(infos, routes(), dtype, {.seed = 5}), optimizer(parameters).state_bytes());
  }
}

TEST_P(RecipeLaw, ThreadsDoNotChangeABit) {
  auto one = small_model(at::kFloat), two = small_model(at::kFloat);
  Optimizer a = optimizer(one), b = optimizer(two);
  const int threads = at::get_num_threads();
  for (int64_t t = 1; t <= 3; ++t) {
    set_gradients(one, t);
    set_gradients(two, t);
    at::set_num_threads(1);
    step(a);
    at::set_num_threads(threads);
    step(b);
  }
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i].tensor, two[i].tensor)) << i;
}

TEST_P(RecipeLaw, WatchingChangesNothing) {
  auto plain = small_model(at::kFloat), watched = small_model(at::kFloat);
  Optimizer a = optimizer(plain), b = optimizer(watched);
  int seen = 0;
  for (int64_t t = 1; t <= 3; ++t) {
    set_gradients(plain, t);
    set_gradients(watched, t);
    step(a);
    for (const std::string& what : b.wants()) b.observe(what, -1, at::full({1}, 1.0));
    b.step(1.0, [&](const UpdateView& view) { seen += view.update.defined(); });
  }
  EXPECT_GE(seen, 2 * static_cast<int>(plain.size()));  // the first step may only set up
  EXPECT_LE(seen, 3 * static_cast<int>(plain.size()));
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i].tensor, watched[i].tensor)) << i;
}

TEST_P(RecipeLaw, PrintsItselfBackAndIsTheSameOptimizer) {
  const Value printed = to_value(recipe());
  const Recipe again = make_recipe(parse_toml(to_toml(printed)));
  EXPECT_EQ(to_json(to_value(again)), to_json(printed));
  auto one = small_model(at::kFloat), two = small_model(at::kFloat);
  Optimizer a = optimizer(one), b(two, routes_of(again), {.seed = 5});
  set_gradients(one, 1);
  set_gradients(two, 1);
  step(a);
  step(b);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i].tensor, two[i].tensor)) << i;
}

TEST_P(RecipeLaw, SparseAndComplexGradientsAreRefusedAndChangeNothing) {
  auto parameters = small_model(at::kFloat);
  Optimizer opt = optimizer(parameters);
  set_gradients(parameters, 1);
  const Tensor before = parameters[1].tensor.detach().clone();
  parameters[0].tensor.mutable_grad() = at::randn({12, 20}).to_sparse();
  EXPECT_THROW(step(opt), UsageError);
  EXPECT_TRUE(at::equal(parameters[1].tensor, before));
}

TEST_P(RecipeLaw, AVectorIsTakenOrRefusedWithTheWayOut) {
  const Tensor w = at::ones({7}).requires_grad_(true);
  const std::vector<Parameter> vector{{infer_parameter("bias", w, 0), w}};
  if (recipe().direction.traits().takes_vectors) {
    EXPECT_NO_THROW(Optimizer(vector, {{"any", recipe(), 0.1}}));
    return;
  }
  try {
    Optimizer(vector, {{"any", recipe(), 0.1}});
    FAIL() << "a recipe for matrices took a vector";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("adamw"), std::string::npos) << e.what();
  }
}

TEST_P(RecipeLaw, ABackwardThroughOldWeightsIsRefused) {
  auto parameters = small_model(at::kFloat);
  Optimizer opt = optimizer(parameters);
  const Tensor& w = parameters[0].tensor;
  set_gradients(parameters, 1);
  step(opt);
  const Tensor loss = (w * w).sum();  // saves w
  set_gradients(parameters, 2);
  step(opt);
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST_P(RecipeLaw, ADescribedRecipeSaysWhereItComesFrom) {
  const RecipeInfo& info = recipe_info(Value(GetParam()));
  EXPECT_FALSE(info.summary.empty());
  EXPECT_FALSE(info.formula.empty());
  EXPECT_FALSE(info.paper.empty());
  EXPECT_FALSE(info.state.empty());
  EXPECT_FALSE(info.tune.empty());
  EXPECT_FALSE(info.options.empty());
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const RecipeInfo& r : recipe_registry()) names.push_back(r.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Recipes, RecipeLaw, ::testing::ValuesIn(recipe_names()), print_name);

}  // namespace
}  // namespace schatten
