// The authors' own numbers: every file of golden/optimizers, in float64 and float32. Recipes say in the registry which
// recordings they replay; maps on single matrices are claimed in map_claims.cpp.
#include "support/golden.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>
#include <schatten/parameters/sharpness.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "parity/claims.h"

namespace schatten::testing {
namespace {

/// Recordings that other tests replay: no optimizer runs, but functions of their own.
const std::set<std::string> kElsewhere{
    "AlphaDecay", "QK-Clip",                                        // tests/parameters
    "cautious decay + update on bf16 weight with 16-bit mantissa",  // tests/parameters
};

/// Recordings that we decide not to have, with the reason. (None so far.)
const std::map<std::string, std::string> kNotOurs{};

struct Case {
  std::filesystem::path file;
  at::ScalarType dtype;
};

Value hyper_of(const TensorFile& f) { return parse_json(f.metadata.at("hyper")); }
/// Short lists that are inputs of a whole run (GUM's branches) are read as hyper-parameters.
Value hyper_with_lists(const TensorFile& f) {
  Value hyper = hyper_of(f);
  for (const auto& [name, tensor] : f.tensors) {
    if (name.find('.') != std::string::npos || tensor.dim() != 1 || tensor.scalar_type() != at::kLong) continue;
    Value list = Value::array();
    for (int64_t i = 0; i < tensor.numel(); ++i) list.push_back(tensor[i].item<int64_t>());
    hyper[name] = std::move(list);
  }
  return hyper;
}
bool as_shipped(const std::filesystem::path& file) {
  return file.stem().string().ends_with("_asis") || file.stem().string().ends_with("_asis_bf16");
}

const Published* published(const std::string& optimizer) {
  for (const RecipeInfo& info : recipe_registry())
    for (const Published& p : info.published)
      if (p.optimizer == optimizer) return &p;
  return nullptr;
}

bool is_claimed(const TensorFile& header) {
  const std::string& name = header.metadata.at("optimizer");
  return published(name) || name == "SAM" || claim_map(name, hyper_of(header), ComputeDtype::automatic);
}

/// Recorded in float64: run in float64 and float32 (where a tolerance is stated). In a smaller type: run in that one.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& file : golden_files("optimizers")) {
    const TensorFile header = load_safetensors_header(file);
    if (!header.metadata.contains("optimizer") || !is_claimed(header)) continue;
    const std::string dtype = header.metadata.at("dtype");
    const bool float32 = header.metadata.at("rtol_f32") != "n/a";
    if (dtype == "float64") all.push_back({file, at::kDouble});
    if ((dtype == "float64" && float32) || dtype == "float32" || as_shipped(file)) all.push_back({file, at::kFloat});
    if (dtype == "bfloat16" && !as_shipped(file)) all.push_back({file, at::kBFloat16});
  }
  return all;
}

TEST(GoldenOptimizers, EveryRecordingIsClaimed) {
  std::string unclaimed;
  for (const auto& file : golden_files("optimizers")) {
    const TensorFile header = load_safetensors_header(file);
    const std::string& name = header.metadata.at("optimizer");
    if (!is_claimed(header) && !kElsewhere.contains(name) && !kNotOurs.contains(name))
      unclaimed += "\n  " + file.stem().string() + " (" + name + ")";
  }
  EXPECT_EQ(unclaimed, "") << "Say in the recipe's file which recordings it replays, or list them in kNotOurs.";
}

double distance(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
}

/// Up to the sign of each column.
double column_distance(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  const Tensor signs = at::where((x * y).sum(0) < 0, at::full({}, -1.0, at::kDouble), at::full({}, 1.0, at::kDouble));
  return (x * signs - y).norm().item<double>();
}

double span_distance(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return distance(at::mm(x, x.mT()), at::mm(y, y.mT()));
}

double compare_slot(const SlotAlias& alias, const Tensor& ours, const Tensor& theirs) {
  Tensor got = ours.to(at::kDouble) * alias.factor;
  const bool turned = got.dim() == 2 && theirs.dim() == 2 && got.size(0) == theirs.size(1) &&
                      got.size(1) == theirs.size(0) && got.size(0) != got.size(1);
  const Tensor want = turned ? theirs.mT() : theirs;  // directions are columns here, rows in some codes
  got = got.reshape(want.sizes());
  if (alias.compare == SlotAlias::columns) return column_distance(got, want);
  return alias.compare == SlotAlias::span ? span_distance(got, want) : distance(got, want);
}

std::string three_digits(int64_t t) {
  const std::string digits = std::to_string(t);
  return std::string(3 - std::min<size_t>(3, digits.size()), '0') + digits;
}

/// "state.P.003" -> "P" when it is of step t.
std::optional<std::string> state_name(const std::string& tensor, const std::string& prefix, int64_t t) {
  const std::string head = prefix + "state.", tail = "." + three_digits(t);
  if (!tensor.starts_with(head) || !tensor.ends_with(tail)) return std::nullopt;
  return tensor.substr(head.size(), tensor.size() - head.size() - tail.size());
}

class Golden : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    file_ = load_safetensors(GetParam().file);
    dtype_ = GetParam().dtype;
    rtol_ = std::stod(file_.metadata.at(dtype_ == at::kDouble ? "rtol_f64" : "rtol_f32"));
  }
  void run_map(const Map& map);
  void run_trajectory(const Replay& replay);
  void run_sharpness_aware();
  void load_parameters(const Replay& replay);
  void set_gradients(const char* kind, int64_t t, bool missing_is_zero);
  bool has(const char* kind, int64_t t) const;
  void write_inputs(const Replay& replay, Optimizer& optimizer, int64_t t, bool after);
  void override_decay(const Replay& replay, Optimizer& optimizer, int64_t t);
  void compare(const Replay& replay, const Optimizer& optimizer, size_t i, int64_t t);
  void compare_states(const Replay& replay, const Optimizer& optimizer, size_t i, int64_t t);

  double worst_ = 0;  // error as a share of the tolerance's scale
  TensorFile file_;
  at::ScalarType dtype_{};
  double rtol_ = 0;
  std::vector<Parameter> parameters_;
  std::vector<std::string> prefixes_;
};

void Golden::run_map(const Map& map) {
  for (const auto& [name, x] : file_.tensors) {
    if (!name.ends_with("/X")) continue;
    const Tensor expected = file_.at(name.substr(0, name.size() - 1) + "O");
    const double error = distance(map(x.to(dtype_)), expected);
    const double scale = expected.to(at::kDouble).norm().item<double>();
    EXPECT_LE(error, rtol_ * scale) << name;
    if (scale > 0) worst_ = std::max(worst_, error / scale);
  }
}

void Golden::load_parameters(const Replay& replay) {
  const bool alone = file_.find("param.init") != nullptr;
  const Value shapes = alone ? Value::Table{{"param", Value()}} : parse_json(file_.metadata.at("params"));
  for (const auto& [name, shape] : shapes.as_table()) {
    prefixes_.push_back(alone ? "" : name + "/");
    const Tensor init = file_.at(prefixes_.back() + "param.init").to(dtype_).clone().requires_grad_(true);
    parameters_.push_back({infer_parameter(name, init, static_cast<int64_t>(parameters_.size())), init});
    if (replay.describe) replay.describe(parameters_.back().info);
  }
}

void Golden::set_gradients(const char* kind, int64_t t, bool missing_is_zero) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor* grad = file_.find(prefixes_[i] + kind + "." + three_digits(t));
    Tensor& slot = parameters_[i].tensor.mutable_grad();
    if (grad) slot = grad->to(dtype_);
    else slot = missing_is_zero ? at::zeros_like(parameters_[i].tensor) : Tensor();
  }
}

bool Golden::has(const char* kind, int64_t t) const {
  return std::any_of(prefixes_.begin(), prefixes_.end(), [&](const std::string& prefix) {
    return file_.find(prefix + kind + "." + three_digits(t)) != nullptr;
  });
}

/// Inputs that the recording gives: bases to start from, projectors whose signs are the authors' LAPACK's.
void Golden::write_inputs(const Replay& replay, Optimizer& optimizer, int64_t t, bool after) {
  for (size_t i = 0; i < parameters_.size(); ++i)
    for (const SlotInput& input : replay.inputs) {
      if (input.after != after) continue;
      std::string name = input.theirs;
      if (const size_t star = name.find('*'); star != std::string::npos) name.replace(star, 1, three_digits(t));
      else if (name.ends_with(".init") ? t != 0 : !name.ends_with("." + three_digits(t))) continue;
      const Tensor* given = file_.find(prefixes_[i] + name);
      if (!given || given->numel() == 0) continue;
      const Tensor slot = optimizer.slot(parameters_[i].info.name, input.ours);
      ASSERT_TRUE(slot.defined()) << "no slot " << input.ours;
      const bool turned = input.transposed || given->numel() != slot.numel() || given->size(0) != slot.size(0);
      slot.copy_((turned && given->dim() == 2 ? given->mT() : *given).reshape(slot.sizes()));
    }
}

void Golden::override_decay(const Replay& replay, Optimizer& optimizer, int64_t t) {
  if (!replay.weight_decay) return;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const bool given = file_.find(prefixes_[i] + "grad." + three_digits(t)) != nullptr;
    optimizer.set_weight_decay(parameters_[i].info.name, replay.weight_decay(parameters_[i].info, t, given));
  }
}

void Golden::compare(const Replay& replay, const Optimizer& optimizer, size_t i, int64_t t) {
  const Parameter& p = parameters_[i];
  const std::string at_t = "." + three_digits(t);
  const Tensor init = file_.at(prefixes_[i] + "param.init");
  if (const Tensor* expected = file_.find(prefixes_[i] + "param" + at_t)) {
    const double error = distance(p.tensor, *expected), moved = distance(*expected, init);
    const double allowed = moved > 0 ? rtol_ * moved : 1e-14 * init.to(at::kDouble).norm().item<double>();
    EXPECT_LE(error, allowed) << prefixes_[i] << "param" << at_t;
    if (moved > 0) worst_ = std::max(worst_, error / moved);
  }
  compare_states(replay, optimizer, i, t);
}

/// Names that most codes share; a replay adds its own, which come first.
const std::vector<SlotAlias>& common_aliases() {
  static const std::vector<SlotAlias> aliases{
      {"momentum", "momentum_buffer"},        {"m", "exp_avg"},       {"m", "momentum_buffer"},    {"v", "exp_avg_sq"},
      {"momentum_buffer", "momentum_buffer"}, {"exp_avg", "exp_avg"}, {"exp_avg_sq", "exp_avg_sq"}};
  return aliases;
}

void Golden::compare_states(const Replay& replay, const Optimizer& optimizer, size_t i, int64_t t) {
  std::vector<SlotAlias> aliases = replay.slots;
  aliases.insert(aliases.end(), common_aliases().begin(), common_aliases().end());
  for (const auto& [tensor, expected] : file_.tensors) {
    const auto name = state_name(tensor, prefixes_[i], t);
    if (!name || expected.numel() == 0) continue;
    const SlotAlias* alias = nullptr;
    Tensor got;
    for (const SlotAlias& a : aliases)
      if (!alias && a.theirs == *name &&
          (a.ours.empty() || (got = optimizer.slot(parameters_[i].info.name, a.ours)).defined()))
        alias = &a;
    ASSERT_TRUE(alias) << "nothing of ours is the recording's " << tensor;
    if (alias->ours.empty()) continue;  // not kept here: the replay says so
    const double scale = alias->compare == SlotAlias::span ? std::sqrt(static_cast<double>(got.size(-1)))
                                                           : expected.to(at::kDouble).norm().item<double>();
    EXPECT_LE(compare_slot(*alias, got, expected), rtol_ * scale) << tensor;
  }
}

void Golden::run_trajectory(const Replay& replay) {
  load_parameters(replay);
  OptimizerOptions options;
  if (dtype_ == at::kBFloat16) options.state_dtype = at::kBFloat16;  // as shipped: everything in bfloat16
  Optimizer optimizer(parameters_, replay.routes, options);
  const Tensor lr = file_.at("lr");
  for (int64_t t = 0; t < lr.numel(); ++t) {
    write_inputs(replay, optimizer, t, false);
    set_gradients("grad", t, replay.missing_is_zero);
    override_decay(replay, optimizer, t);
    optimizer.step(lr[t].item<double>());
    write_inputs(replay, optimizer, t, true);
    if (has("hess_grad", t)) {
      set_gradients("hess_grad", t, false);
      optimizer.probe();
    }
    for (size_t i = 0; i < parameters_.size(); ++i) compare(replay, optimizer, i, t);
  }
}

/// SAM's two gradients around any recipe: the ascent is the library's, the second gradient is recorded.
void Golden::run_sharpness_aware() {
  const Value hyper = hyper_of(file_);
  const bool adam = hyper.at("base").as_string() == "AdamW";
  Value base = Value::Table{{"recipe", adam ? "adamw" : "sgd"}, {"weight_decay", hyper.at("weight_decay")}};
  if (!adam) base["momentum"] = hyper.at("momentum");
  if (const Value* betas = hyper.find("betas"); adam && betas) {
    base["beta1"] = betas->as_array().at(0);
    base["beta2"] = betas->as_array().at(1);
  }
  if (const Value* eps = hyper.find("eps"); adam && eps) base["eps"] = *eps;
  const Replay replay{.routes = {{"any", make_recipe(base), 1.0}}};
  load_parameters(replay);
  Optimizer optimizer(parameters_, replay.routes);
  const Tensor lr = file_.at("lr");
  std::vector<Tensor> weights;
  for (const Parameter& p : parameters_) weights.push_back(p.tensor);
  for (int64_t t = 0; t < lr.numel(); ++t) {
    set_gradients("grad", t, false);
    {
      const Perturbation ascent(weights, {hyper.at("rho").as_real(), hyper.at("adaptive").as_bool()});
      for (size_t i = 0; i < parameters_.size(); ++i) {
        const Tensor* expected = file_.find(prefixes_[i] + "perturbed." + three_digits(t));
        if (!expected) continue;
        EXPECT_LE(distance(weights[i], *expected), rtol_ * expected->to(at::kDouble).norm().item<double>());
      }
    }
    set_gradients("grad2", t, false);
    optimizer.step(lr[t].item<double>());
    for (size_t i = 0; i < parameters_.size(); ++i) compare(replay, optimizer, i, t);
  }
}

TEST_P(Golden, MatchesTheAuthorsNumbers) {
  const std::string& name = file_.metadata.at("optimizer");
  const Value hyper = hyper_with_lists(file_);
  const ComputeDtype compute = as_shipped(GetParam().file) ? ComputeDtype::bfloat16
                               : dtype_ == at::kDouble     ? ComputeDtype::float64
                                                           : ComputeDtype::float32;
  if (name == "SAM") run_sharpness_aware();
  else if (const auto map = claim_map(name, hyper, compute)) run_map(*map);
  else run_trajectory(published(name)->replay(hyper, compute));
  report_parity(GetParam().file, file_, dtype_, worst_, rtol_);
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return case_name(info.param.file) + "_" + c10::toString(info.param.dtype);
}
INSTANTIATE_TEST_SUITE_P(Optimizers, Golden, ::testing::ValuesIn(cases()), name_of);
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.file.filename().string() << " in " << c10::toString(c.dtype);
}

}  // namespace
}  // namespace schatten::testing
