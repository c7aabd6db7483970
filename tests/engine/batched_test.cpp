// Parameters of a kind stepped as one batch, as on accelerators: the same as one by one to rounding, and no step waits
// for a device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/engine/update_impl.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/spectral.h>
#include <support/threads.h>
#include <torch/library.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace schatten {
namespace {

/// Operations whose results on the meta device torch describes in Python only.
TORCH_LIBRARY_IMPL(aten, Meta, m) {
  m.impl("isnan", [](const at::Tensor& x) { return at::empty_like(x, at::kBool); });
  m.impl("abs.out", [](const at::Tensor& x, at::Tensor& out) -> at::Tensor& {
    out.resize_(x.sizes());
    return out;
  });
  m.impl("where.self", [](const at::Tensor& which, const at::Tensor& x, const at::Tensor& y) {
    const auto dtype = at::promote_types(x.scalar_type(), y.scalar_type());
    return at::empty(at::add(at::add(which, x), y).sizes(), x.options().dtype(dtype).device(which.device()));
  });
  m.impl("nan_to_num.out",
         [](const at::Tensor& x, std::optional<double>, std::optional<double>, std::optional<double>,
            at::Tensor& out) -> at::Tensor& {
           out.resize_(x.sizes());
           return out;
         });
  m.impl("bucketize.Tensor", [](const at::Tensor& x, const at::Tensor&, bool narrow, bool) {
    return at::empty_like(x, narrow ? at::kInt : at::kLong);
  });
}

Recipe recipe_of(const std::string& toml) { return make_recipe(parse_toml(toml)); }
Recipe recipe_named(const std::string& name) { return recipe_of("recipe = '" + name + "'"); }

// --- models ---

constexpr int kBlocks = 6;  // a query and a key each in the first three, all in one in the others

ParameterInfo attention(std::string name, int block, Projection projection, int64_t rows) {
  const bool fused = projection == Projection::fused_qkv;
  return {.name = std::move(name),
          .shape = {rows, 12},
          .block = block,
          .blocks = kBlocks,
          .projection = projection,
          .heads = 4,
          .kv_heads = 2,
          .fused_parts = fused ? std::vector<int64_t>{8, 4, 4} : std::vector<int64_t>{}};
}

/// Several of most shapes, in mixed order; some that stand alone.
std::vector<ParameterInfo> infos() {
  std::vector<ParameterInfo> all;
  const auto add = [&](ParameterInfo info) {
    info.index = static_cast<int64_t>(all.size());
    all.push_back(std::move(info));
  };
  for (const char* layer : {"a", "b", "c"}) {
    const std::string at = layer;
    const int block = layer[0] - 'a';
    add({.name = at + ".wide", .shape = {12, 20}});
    add(attention(at + ".query", block, Projection::query, 8));
    add(attention(at + ".key", block, Projection::key, 4));
    add(attention(at + ".fused", block + 3, Projection::fused_qkv, 16));
    add({.name = at + ".gain", .role = Role::gain, .shape = {16}});
    add({.name = at + ".tall", .shape = {20, 12}});
    add({.name = at + ".conv", .role = Role::conv, .shape = {8, 4, 3, 3}});
    if (at != "b") add({.name = at + ".bias", .role = Role::bias, .shape = {16}});
  }
  add({.name = "alone", .shape = {13, 17}});
  add({.name = "row", .shape = {1, 9}});
  return all;
}

std::vector<Parameter> model(at::ScalarType dtype, at::Device device = at::kCPU) {
  std::vector<Parameter> parameters;
  for (ParameterInfo& info : infos()) {
    const Tensor w = Rng(11).of("init").at(info.index).normal(info.shape, dtype).to(device).requires_grad_(true);
    parameters.push_back({std::move(info), w});
  }
  return parameters;
}

/// Some parameters miss some gradients, so members of a kind come to differ in their number of steps.
void set_gradients(const std::vector<Parameter>& parameters, int64_t t) {
  for (const Parameter& p : parameters) {
    Tensor& grad = p.tensor.mutable_grad();
    grad.reset();
    if ((t == 2 && p.info.name == "b.wide") || (t == 3 && p.info.name == "a.conv")) continue;
    const at::ScalarType dtype = p.tensor.scalar_type();
    if (p.tensor.is_meta()) grad = at::empty_like(p.tensor);
    else grad = Rng(13).at(t).at(p.info.index).normal(p.info.shape, dtype);
  }
}

std::vector<Route> routes_of(const Recipe& recipe) {
  if (recipe.direction.traits().takes_vectors) return {{"any", recipe, 0.02}};
  return {{"gain", recipe_named("adamw"), 0.02}, {"bias", recipe_named("adamw"), 0.02}, {"any", recipe, 0.02}};
}

// Without kernels of the project's own: those round in another order than ATen's batches.
OptimizerOptions options(bool batched) { return {.seed = 5, .fused = false, .batched = batched, .isa = Isa::portable}; }

void step(Optimizer& optimizer, const std::vector<Parameter>& parameters, int64_t t,
          const std::function<void(const UpdateView&)>& watch = {}) {
  set_gradients(parameters, t);
  for (const std::string& what : optimizer.wants())
    for (int block = 0; block < kBlocks; ++block) optimizer.observe(what, block, at::full({4}, 150.0));
  optimizer.step(1.0, watch);
}

// --- comparing ---

/// max |x - y| / max |y|; infinity where only one is a number.
double difference(const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return 0;
  const Tensor a = x.to(at::kDouble), b = y.to(at::kDouble);
  const double size = b.abs().max().item<double>(), apart = (a - b).abs().max().item<double>();
  if (apart == 0) return 0;
  return std::isfinite(apart) ? apart / size : INFINITY;
}

void expect_same(const std::vector<Parameter>& x, const Optimizer& a, const std::vector<Parameter>& y,
                 const Optimizer& b, double tolerance) {
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_LE(difference(x[i].tensor.detach(), y[i].tensor.detach()), tolerance) << x[i].info.name;
  const TensorFile one = a.state(), two = b.state();
  ASSERT_EQ(one.tensors.size(), two.tensors.size());
  for (size_t i = 0; i < one.tensors.size(); ++i) {
    EXPECT_EQ(one.tensors[i].first, two.tensors[i].first);
    EXPECT_EQ(one.tensors[i].second.scalar_type(), two.tensors[i].second.scalar_type());
    EXPECT_EQ(one.tensors[i].second.sizes(), two.tensors[i].second.sizes());
    EXPECT_LE(difference(one.tensors[i].second, two.tensors[i].second), tolerance) << one.tensors[i].first;
  }
}

double tolerance_of(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : 1e-5; }

// --- every recipe ---

class BatchedRecipe : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<Route> routes() const { return routes_of(recipe_named(GetParam())); }
};

TEST_P(BatchedRecipe, IsOneByOneToRounding) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const auto one = model(dtype), two = model(dtype);
    Optimizer single(one, routes(), options(false)), batched(two, routes(), options(true));
    for (int64_t t = 1; t <= 4; ++t) {
      step(single, one, t);
      step(batched, two, t);
    }
    expect_same(two, batched, one, single, tolerance_of(dtype));
  }
}

TEST_P(BatchedRecipe, SavedInBatchesAndResumedEitherWay) {
  const auto one = model(at::kDouble), two = model(at::kDouble);
  Optimizer single(one, routes(), options(false));
  TensorFile saved;
  {
    Optimizer batched(two, routes(), options(true));
    for (int64_t t = 1; t <= 3; ++t) step(single, one, t), step(batched, two, t);
    saved = batched.state();
  }
  for (const bool again : {true, false}) {
    auto three = two;
    for (Parameter& p : three) p.tensor = p.tensor.detach().clone().requires_grad_(true);
    auto four = one;
    for (Parameter& p : four) p.tensor = p.tensor.detach().clone().requires_grad_(true);
    Optimizer resumed(three, routes(), options(again)), straight(four, routes(), options(false));
    resumed.load_state(saved);
    straight.load_state(single.state());
    for (int64_t t = 4; t <= 5; ++t) step(resumed, three, t), step(straight, four, t);
    expect_same(three, resumed, four, straight, tolerance_of(at::kDouble));
  }
}

TEST_P(BatchedRecipe, WatchingChangesNothingAndSeesEachUpdate) {
  const auto one = model(at::kDouble), two = model(at::kDouble), three = model(at::kDouble);
  Optimizer plain(one, routes(), options(true)), watched(two, routes(), options(true));
  Optimizer single(three, routes(), options(false));
  for (int64_t t = 1; t <= 3; ++t) {
    std::map<std::string, Tensor> seen, expected;
    step(plain, one, t);
    step(watched, two, t, [&](const UpdateView& v) { EXPECT_TRUE(seen.emplace(v.parameter.name, v.update).second); });
    step(single, three, t, [&](const UpdateView& v) { expected.emplace(v.parameter.name, v.update); });
    ASSERT_EQ(seen.size(), expected.size());
    EXPECT_TRUE(t == 1 || !seen.empty());  // the first step may only set up
    for (const auto& [name, update] : expected) {
      ASSERT_EQ(seen.at(name).sizes(), update.sizes()) << name;
      EXPECT_LE(difference(seen.at(name), update), 1e-11) << name;
    }
  }
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i].tensor, two[i].tensor)) << i;
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const RecipeInfo& r : recipe_registry()) names.push_back(r.name);
  return names;
}
const auto print_name = [](const auto& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Recipes, BatchedRecipe, ::testing::ValuesIn(recipe_names()), print_name);

/// Decay in every form, retractions, a controller's decay of its own.
TEST(Batched, DecayAndRetractionGoParameterByParameter) {
  const std::vector<std::string> recipes{"recipe = 'muon'\nweight_decay = 0.1\ncautious = true",
                                         "recipe = 'adamw'\nweight_decay = 0.1\ndecay = 'coupled'",
                                         "recipe = 'adamw'\nweight_decay = 0.1\ndecay = 'after'",
                                         "recipe = 'adamw'\nweight_decay = 10\ndecay = 'cautious_squared'",
                                         "recipe = 'muon'\nretract = { form = 'project', axis = 'rows' }",
                                         "recipe = 'muon'\nretract = { form = 'tangent', axis = 'rows' }",
                                         "recipe = 'muon'\nretract = { form = 'geodesic_scaled', axis = 'cols' }",
                                         "recipe = 'muon'\nretract = { form = 'plan_fixed', axis = 'cols' }",
                                         "recipe = 'muon'\nretract = { form = 'plan_scaled', axis = 'cols' }"};
  for (const std::string& toml : recipes) {
    SCOPED_TRACE(toml);
    const auto one = model(at::kDouble), two = model(at::kDouble);
    Optimizer single(one, routes_of(recipe_of(toml)), options(false));
    Optimizer batched(two, routes_of(recipe_of(toml)), options(true));
    for (Optimizer* o : {&single, &batched}) o->set_weight_decay("b.wide", 0.25);
    for (int64_t t = 1; t <= 3; ++t) step(single, one, t), step(batched, two, t);
    expect_same(two, batched, one, single, 1e-12);
    EXPECT_FALSE(at::equal(one[0].tensor, model(at::kDouble)[0].tensor));
  }
}

TEST(Batched, HalfWeightsAreRoundedOnce) {
  const auto one = model(at::kBFloat16), two = model(at::kBFloat16);
  Optimizer single(one, routes_of(recipe_named("muon")), options(false));
  Optimizer batched(two, routes_of(recipe_named("muon")), options(true));
  for (int64_t t = 1; t <= 3; ++t) step(single, one, t), step(batched, two, t);
  for (size_t i = 0; i < one.size(); ++i)
    EXPECT_LE(difference(one[i].tensor.detach(), two[i].tensor.detach()), 0x1p-8) << one[i].info.name;
}

// --- that it is one batch, and which ---

/// What a stage was given: [.., m, n] of each call.
struct Sizes {
  std::vector<std::vector<int64_t>>* seen;
  bool batches = true, draws = false;

  std::string name() const { return "sizes"; }
  Traits traits() const { return {.locality = Locality::matrix, .batches = batches, .draws = draws}; }
  StateSpec state(const Bucket&) const { return {.name = name(), .slots = {{"last"}}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    seen->push_back(u.sizes().vec());
    EXPECT_EQ(step.grad.sizes(), u.sizes());
    EXPECT_FALSE(step.param.defined() && u.dim() == 3);  // nobody said that it is read
    s["last"].copy_(u);
    return u.clone();
  }
  Value to_value() const { return Value::Table{{"stage", "sizes"}}; }
};

using Seen = std::vector<std::vector<int64_t>>;

Seen sizes_given(bool batches, bool draws, std::optional<bool> forced) {
  Seen seen;
  const auto parameters = model(at::kFloat);
  Optimizer optimizer(parameters, {{"any", {.name = "sizes", .direction = Sizes{&seen, batches, draws}}, 0.1}},
                      {.batched = forced});
  const at::Tensor slot = optimizer.slot("c.tall", "last");
  const void* const memory = slot.data_ptr();
  {
    const testing::Threads one(1);
    step(optimizer, parameters, 1);
  }
  EXPECT_EQ(optimizer.slot("c.tall", "last").data_ptr(), memory);  // in place
  for (const Parameter& p : parameters)
    EXPECT_TRUE(at::equal(optimizer.slot(p.info.name, "last").view(p.info.shape), p.tensor.grad()));
  std::sort(seen.begin(), seen.end());
  return seen;
}

TEST(Batched, OneCallForAllOfAKind) {
  const Seen expected{{1, 9},     {3, 8, 12},  {3, 4, 12},  {2, 1, 16}, {3, 1, 16},
                      {3, 8, 36}, {3, 12, 20}, {3, 16, 12}, {13, 17},   {3, 20, 12}};
  Seen sorted = expected;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sizes_given(true, false, true), sorted);
}

TEST(Batched, OnACPUOnlyWhenAsked) {
  EXPECT_EQ(sizes_given(true, false, std::nullopt).size(), infos().size());
  EXPECT_EQ(sizes_given(true, false, false).size(), infos().size());
}

TEST(Batched, StagesThatCannotGoOneByOne) {
  EXPECT_EQ(sizes_given(false, false, true).size(), infos().size());
  EXPECT_EQ(sizes_given(true, true, true).size(), infos().size());
}

TEST(Batched, ARunSaysSo) {
  const auto parameters = model(at::kFloat);
  const auto line = [&](const char* recipe, std::optional<bool> batched) {
    return Optimizer(parameters, routes_of(recipe_named(recipe)), {.batched = batched}).kernels().back();
  };
  EXPECT_NE(line("muon", true).find("in batches"), std::string::npos);
  EXPECT_EQ(line("muon", std::nullopt).find("in batches"), std::string::npos);
  EXPECT_EQ(line("soap", true).find("in batches"), std::string::npos);
  const auto table = [&](at::Device device) {
    return Optimizer(model(at::kFloat, device), routes_of(recipe_named("muon"))).routing_table();
  };
  EXPECT_NE(table(at::kCPU).find("Newton-Schulz"), std::string::npos);
  EXPECT_EQ(table(at::kMeta).find("Newton-Schulz"), std::string::npos);  // what a CPU would do
}

std::vector<std::vector<std::string>> names(const std::vector<Batch>& batches) {
  std::vector<std::vector<std::string>> all;
  for (const Batch& b : batches) {
    all.emplace_back();
    for (const Slot* s : b) all.back().push_back(s->parameter.info.name);
  }
  return all;
}

TEST(Batches, AreOfAKind) {
  std::vector<Slot> slots;
  const auto add = [&](const std::string& name, auto change) {
    Slot s{.parameter = {{.name = name, .index = static_cast<int64_t>(slots.size()), .shape = {4, 6}}, {}}, .steps = 3};
    s.parameter.tensor = at::zeros({4, 6});
    change(s);
    s.parameter.tensor = s.parameter.tensor.reshape(s.parameter.info.shape);
    slots.push_back(std::move(s));
  };
  const auto nothing = [](Slot&) {};
  add("first", nothing);
  add("turned", [](Slot& s) { s.parameter.info.shape = {6, 4}; });
  add("block", [](Slot& s) { s.parameter.info.block = 7; });
  add("route", [](Slot& s) { s.route = 1; });
  add("steps", [](Slot& s) { s.steps = 2; });
  add("dtype", [](Slot& s) { s.parameter.tensor = at::zeros({4, 6}, at::kDouble); });
  add("device", [](Slot& s) { s.parameter.tensor = at::zeros({4, 6}, at::TensorOptions().device(at::kMeta)); });
  add("role", [](Slot& s) { s.parameter.info.role = Role::head; });
  add("heads", [](Slot& s) { s.parameter.info.heads = 2; });
  add("query", [](Slot& s) { s.parameter.info.projection = Projection::query; });
  add("fused", [](Slot& s) { s.parameter.info.fused_parts = {2, 1, 1}; });
  add("axis", [](Slot& s) { s.parameter.info.unit_axis = 0; });
  add("decay", [](Slot& s) { s.weight_decay = 0.5; });
  std::vector<Slot*> all;
  for (Slot& s : slots) all.push_back(&s);
  EXPECT_EQ(names(batches_of(all)), (std::vector<std::vector<std::string>>{{"first", "block", "decay"},
                                                                           {"turned"},
                                                                           {"route"},
                                                                           {"steps"},
                                                                           {"dtype"},
                                                                           {"device"},
                                                                           {"role"},
                                                                           {"heads"},
                                                                           {"query"},
                                                                           {"fused"},
                                                                           {"axis"}}));
  const std::vector<Slot*> three{all[0], all[2], all[12]};
  EXPECT_EQ(names(batches_of(three, 48)), (std::vector<std::vector<std::string>>{{"first", "block"}, {"decay"}}));
  EXPECT_EQ(batches_of(three, 1).size(), 3u);  // larger than a batch may be: alone
  EXPECT_TRUE(batches_of({}).empty());
}

/// Members of a batch share one Step: a stage that goes by more than `kind` would treat the others like the first.
TEST(Batches, WhatDiffersInAKindIsNotLookedAtByStagesThatBatch) {
  std::set<std::string> drawing;
  for (const StageInfo& registered : stage_registry()) {
    const Stage stage = make_stage(Value::Table{{"stage", registered.name}});
    if (!stage.traits().batches) continue;
    std::vector<Tensor> results;
    for (const int64_t index : {0, 3}) {
      const ParameterInfo info{.name = "w" + std::to_string(index),
                               .index = index,
                               .shape = {12, 20},
                               .block = static_cast<int>(index % 2),
                               .blocks = 2};
      const Bucket bucket = bucket_of(info, at::kDouble);
      State state(stage.state(bucket), bucket);
      for (int64_t t = 1; t <= 3; ++t) {
        const Tensor u = Rng(7).at(t).normal({12, 20}, at::kDouble);
        const Step now{
            .step = t, .lr = 0.01, .parameter = info, .grad = u, .param = at::zeros_like(u), .rng = Rng(3).at(index)};
        const Tensor out = stage.apply(u, state, now);
        results.push_back(out.defined() ? out : at::zeros_like(u));
      }
    }
    bool same = true;
    for (size_t t = 0; t < 3; ++t) same = same && at::equal(results[t], results[t + 3]);
    EXPECT_EQ(same, !stage.traits().draws) << registered.name;
    if (!same) drawing.insert(registered.name);
  }
  EXPECT_EQ(drawing, std::set<std::string>{"low_rank_polar"});
}

// --- on a device that has no data: whoever reads a number there throws ---

TEST(NoSynchronisation, ReadingANumberOfTheMetaDeviceThrows) {
  EXPECT_ANY_THROW(at::zeros({1}, at::TensorOptions().device(at::kMeta)).item<double>());
  EXPECT_ANY_THROW(at::zeros({1}, at::TensorOptions().device(at::kMeta)).cpu());
}

bool waits(const std::string& toml) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto parameters = model(dtype, at::kMeta);
    Optimizer optimizer(parameters, routes_of(recipe_of(toml)), {.seed = 5});
    try {
      for (int64_t t = 1; t <= 3; ++t) step(optimizer, parameters, t);
    } catch (const c10::Error& e) {
      const std::string what = e.what_without_backtrace();
      EXPECT_NE(what.find("aten::_local_scalar_dense"), std::string::npos) << what;  // that and nothing else
      return true;
    }
  }
  return false;
}

TEST(NoSynchronisation, InMuonLikeRecipes) {
  const std::vector<std::string> recipes{"recipe = 'muon'",
                                         "recipe = 'muon'\nweight_decay = 0.1\ncautious = true",
                                         "recipe = 'muon'\nretract = { form = 'project', axis = 'rows' }",
                                         "recipe = 'muon'\nretract = { form = 'geodesic_scaled', axis = 'rows' }",
                                         "recipe = 'muon'\nretract = { form = 'plan_scaled', axis = 'rows' }",
                                         "recipe = 'adamw'",
                                         "recipe = 'normuon'",
                                         "recipe = 'adamuon'",
                                         "recipe = 'lion'",
                                         "recipe = 'htmuon'\nmethod = 'mixture'"};
  for (const std::string& toml : recipes) EXPECT_FALSE(waits(toml)) << toml;
}

/// Those that wait: factorisations look at their input (NaN) or at how far they came, APOLLO's projections are drawn on the
/// host. What ATen's own SVD, eigh and QR do inside is not seen here.
TEST(NoSynchronisation, InAllRecipesButThose) {
  std::set<std::string> waiting;
  for (const std::string& name : recipe_names())
    if (waits("recipe = '" + name + "'")) waiting.insert(name);
  EXPECT_EQ(waiting, (std::set<std::string>{"apollo", "apollo_mini", "fira", "galore", "gum", "schatten_descent",
                                            "shampoo", "soap"}));
}

/// Streams belong to threads: what is launched from another one would not wait for what came before.
TEST(Accelerators, AreGivenWorkByTheCallersThreadAlone) {
  struct Where {
    std::vector<std::thread::id>* seen;
    bool batches;
    std::string name() const { return "where"; }
    Traits traits() const { return {.batches = batches}; }
    StateSpec state(const Bucket&) const { return {.name = name()}; }
    Tensor apply(const Tensor& u, State&, const Step&) const {
      seen->push_back(std::this_thread::get_id());
      return u.clone();
    }
    Value to_value() const { return Value::Table{{"stage", "where"}}; }
  };
  const testing::Threads four(4);
  for (const bool batches : {true, false}) {
    std::vector<std::thread::id> seen;
    const auto parameters = model(at::kFloat, at::kMeta);
    Optimizer optimizer(parameters, {{"any", {.name = "where", .direction = Where{&seen, batches}}, 0.1}});
    for (int64_t t = 1; t <= 20; ++t) {
      set_gradients(parameters, 1);
      optimizer.step();
    }
    EXPECT_GE(seen.size(), 200u);
    EXPECT_EQ(std::set<std::thread::id>(seen.begin(), seen.end()), std::set{std::this_thread::get_id()});
  }
}

TEST(Accelerators, ComputeInBfloat16UnlessTold) {
  for (const Isa isa : available_isas()) {
    EXPECT_EQ(compute_dtype(ComputeDtype::automatic, at::kFloat, isa, at::kCUDA), at::kBFloat16);
    EXPECT_EQ(compute_dtype(ComputeDtype::automatic, at::kDouble, isa, at::kCUDA), at::kDouble);
    EXPECT_EQ(compute_dtype(ComputeDtype::float32, at::kFloat, isa, at::kCUDA), at::kFloat);
    EXPECT_EQ(compute_dtype(ComputeDtype::automatic, at::kFloat, isa, at::kCPU),
              compute_dtype(ComputeDtype::automatic, at::kFloat, isa));
  }
  EXPECT_EQ(compute_dtype(ComputeDtype::automatic, at::kFloat, Isa::portable), at::kFloat);
}

}  // namespace
}  // namespace schatten
