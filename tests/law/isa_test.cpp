// No stage asks the machine for its instructions: a step that is told to use some is, bit for bit, the step of a process
// whose environment names the same.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/core/rng.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

namespace schatten {
namespace {

/// Matrices that are large enough for every kernel.
std::vector<Parameter> model() {
  std::vector<Parameter> parameters;
  const std::vector<std::vector<int64_t>> shapes{{96, 160}, {160, 96}, {70}};
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Tensor w = Rng(11).of("init").at(static_cast<int64_t>(i)).normal(shapes[i], at::kFloat).requires_grad_(true);
    parameters.push_back({infer_parameter("p" + std::to_string(i), w, static_cast<int64_t>(i)), w});
  }
  return parameters;
}

/// Of all weights after some steps, stage by stage and with fused kernels, and of what the stages say of themselves.
uint64_t fingerprint(const Value& recipe_value, Isa isa) {
  constexpr int64_t kSteps = 11;  // a basis turns at the eleventh
  std::string bytes;
  for (const bool fused : {false, true}) {
    const Recipe recipe = make_recipe(recipe_value);
    std::vector<Route> routes{{"any", recipe, 0.02}};
    if (!recipe.direction.traits().takes_vectors)
      routes.insert(routes.begin(), {"gain", make_recipe(Value::Table{{"recipe", "adamw"}}), 0.02});
    const std::vector<Parameter> parameters = model();
    Optimizer optimizer(parameters, routes, {.seed = 5, .fused = fused, .isa = isa});
    for (int64_t t = 1; t <= kSteps; ++t) {
      for (const Parameter& p : parameters)
        p.tensor.mutable_grad() = Rng(13).at(t).at(p.info.index).normal(p.info.shape, at::kFloat);
      for (const std::string& what : optimizer.wants()) optimizer.observe(what, -1, at::full({1}, 1.0));
      optimizer.step();
    }
    for (const Parameter& p : parameters)
      bytes.append(static_cast<const char*>(p.tensor.const_data_ptr()), p.tensor.nbytes());
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) bytes += recipe.direction.decided(dtype, isa);
  }
  return fnv1a(bytes);
}

struct Named {
  std::string name;
  Value recipe;
};

/// All that are registered, and brackets as none of them has.
std::vector<Named> recipes() {
  std::vector<Named> all;
  for (const RecipeInfo& r : recipe_registry()) all.push_back({r.name, Value::Table{{"recipe", r.name}}});
  const auto add = [&](const char* name, const char* toml) { all.push_back({name, parse_toml(toml)}); };
  add("blocks", R"(direction = { stage = "in_blocks", inner = { stage = "orthogonalize" } })");
  add("subspace", R"(
[direction]
stage = "in_subspace"
rank = 70
refresh = "randomized"
refresh_every = 5
inner = { stage = "orthogonalize" }
complement = { stage = "orthogonalize" })");
  add("channels", R"(direction = { stage = "scale_channels_like", rank = 70, inner = { stage = "scale_by_adam" } })");
  add("split", R"(direction = { stage = "orthogonalize", compute = "bfloat16x2" })");
  add("eigenbasis", R"(direction = { stage = "in_eigenbasis", every = 5, inner = { stage = "spectral_power" } })");
  add("shampoo_every", R"(direction = { stage = "shampoo_precondition", every = 5 })");
  return all;
}

/// What the test below starts under another environment.
TEST(Instructions, DISABLED_Print) {
  for (const auto& [name, recipe] : recipes())
    std::printf("fingerprint %s %016lx\n", name.c_str(), static_cast<unsigned long>(fingerprint(recipe, this_isa())));
}

std::map<std::string, std::string> printed_under(Isa isa) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command = "SCHATTEN_ISA=" + std::string(enum_name(isa)) + " '" + self +
                              "' --gtest_also_run_disabled_tests --gtest_filter=Instructions.DISABLED_Print";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::map<std::string, std::string> all;
  char line[256], name[128], hash[32];
  while (pipe && std::fgets(line, sizeof line, pipe.get()))
    if (std::sscanf(line, "fingerprint %127s %31s", name, hash) == 2) all[name] = hash;
  return all;
}

TEST(Instructions, OfAStepAreThoseItIsTold) {
  std::optional<Isa> other;
  for (const Isa isa : available_isas())
    if (isa != this_isa() && !other) other = isa;
  if (!other) GTEST_SKIP() << "this CPU knows one set of instructions only";
  const std::map<std::string, std::string> expected = printed_under(*other);
  for (const auto& [name, recipe] : recipes()) {
    char hash[32];
    std::snprintf(hash, sizeof hash, "%016lx", static_cast<unsigned long>(fingerprint(recipe, *other)));
    ASSERT_TRUE(expected.contains(name)) << name;
    EXPECT_EQ(expected.at(name), hash) << name << " under " << enum_name(*other);
  }
}

}  // namespace
}  // namespace schatten
