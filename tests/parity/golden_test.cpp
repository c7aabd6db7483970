// The authors' own numbers: every file of golden/optimizers that a recipe claims, in float64 and float32.
#include "support/golden.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>

#include <cmath>
#include <iostream>

#include "parity/claims.h"

namespace schatten::testing {
namespace {

struct Case {
  std::filesystem::path file;
  at::ScalarType dtype;
};

Value hyper_of(const TensorFile& f) { return parse_json(f.metadata.at("hyper")); }
bool as_shipped(const std::filesystem::path& file) {
  return file.stem().string().ends_with("_asis") || file.stem().string().ends_with("_asis_bf16");
}

bool is_claimed(const std::filesystem::path& file) {
  const TensorFile header = load_safetensors_header(file);
  if (!header.metadata.contains("optimizer") || !header.metadata.contains("hyper")) return false;
  const std::string& name = header.metadata.at("optimizer");
  return claim_trajectory(name, hyper_of(header), ComputeDtype::automatic) ||
         claim_map(name, hyper_of(header), ComputeDtype::automatic);
}

/// Recorded in float64: run in float64 and float32. Recorded in a smaller type: run in that one.
std::vector<Case> claimed_cases() {
  std::vector<Case> cases;
  for (const auto& file : golden_files("optimizers")) {
    if (!is_claimed(file)) continue;
    const TensorFile header = load_safetensors_header(file);
    const std::string dtype = header.metadata.at("dtype");
    if (dtype == "float64") cases.push_back({file, at::kDouble});
    if (dtype == "float64" || dtype == "float32" || as_shipped(file)) cases.push_back({file, at::kFloat});
    if (dtype == "bfloat16" && !as_shipped(file)) cases.push_back({file, at::kBFloat16});
  }
  return cases;
}

double tolerance(const TensorFile& f, at::ScalarType dtype) {
  return std::stod(f.metadata.at(dtype == at::kDouble ? "rtol_f64" : "rtol_f32"));
}

double distance(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
}

std::string three_digits(int64_t t) {
  const std::string digits = std::to_string(t);
  return std::string(3 - std::min<size_t>(3, digits.size()), '0') + digits;
}

class Golden : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    file_ = load_safetensors(GetParam().file);
    dtype_ = GetParam().dtype;
    rtol_ = tolerance(file_, dtype_);
  }
  void run_map(const Map& map);
  void run_trajectory(const TrajectoryClaim& claim);
  void compare(const Optimizer& optimizer, const Parameter& p, const std::string& prefix, int64_t t);
  double worst_ = 0;  // error as a share of the tolerance's scale
  TensorFile file_;
  at::ScalarType dtype_{};
  double rtol_ = 0;
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

void Golden::compare(const Optimizer& optimizer, const Parameter& p, const std::string& prefix, int64_t t) {
  const std::string at_t = "." + three_digits(t);
  const Tensor init = file_.at(prefix + "param.init");
  if (const Tensor* expected = file_.find(prefix + "param" + at_t)) {
    const double error = distance(p.tensor, *expected), moved = distance(*expected, init);
    const double allowed = moved > 0 ? rtol_ * moved : 1e-14 * init.to(at::kDouble).norm().item<double>();
    EXPECT_LE(error, allowed) << prefix << "param" << at_t;
    if (moved > 0) worst_ = std::max(worst_, error / moved);
  }
  const std::pair<const char*, const char*> slots[] = {{"momentum", "momentum_buffer"},
                                                       {"m", "exp_avg"},
                                                       {"v", "exp_avg_sq"},
                                                       {"exp_avg", "exp_avg"},
                                                       {"exp_avg_sq", "exp_avg_sq"},
                                                       {"momentum_buffer", "momentum_buffer"}};
  for (const auto& [theirs, ours] : slots) {
    const Tensor* expected = file_.find(prefix + "state." + theirs + at_t);
    if (!expected) continue;
    const Tensor got = optimizer.slot(p.info.name, ours);
    ASSERT_TRUE(got.defined()) << "no slot " << ours;
    EXPECT_LE(distance(got.reshape(expected->sizes()), *expected),
              rtol_ * expected->to(at::kDouble).norm().item<double>())
        << prefix << "state." << theirs << at_t;
  }
}

void Golden::run_trajectory(const TrajectoryClaim& claim) {
  std::vector<Parameter> parameters;
  std::vector<std::string> prefixes;
  const Value shapes = parse_json(file_.metadata.at("params"));
  for (const auto& [name, shape] : shapes.as_table()) {
    prefixes.push_back(shapes.as_table().size() == 1 && file_.find("param.init") ? "" : name + "/");
    const Tensor init = file_.at(prefixes.back() + "param.init").to(dtype_).clone().requires_grad_(true);
    parameters.push_back({infer_parameter(name, init, static_cast<int64_t>(parameters.size())), init});
  }
  OptimizerOptions options;
  if (dtype_ == at::kBFloat16) options.state_dtype = at::kBFloat16;  // as shipped: everything in bfloat16
  Optimizer optimizer(parameters, claim.routes, options);
  const Tensor lr = file_.at("lr");
  for (int64_t t = 0; t < lr.numel(); ++t) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Tensor* grad = file_.find(prefixes[i] + "grad." + three_digits(t));
      Tensor& slot = parameters[i].tensor.mutable_grad();
      if (grad) slot = grad->to(dtype_);
      else slot = claim.missing_is_zero ? at::zeros_like(parameters[i].tensor) : Tensor();
    }
    optimizer.step(lr[t].item<double>());
    for (size_t i = 0; i < parameters.size(); ++i) compare(optimizer, parameters[i], prefixes[i], t);
  }
}

TEST_P(Golden, MatchesTheAuthorsNumbers) {
  const std::string& name = file_.metadata.at("optimizer");
  const Value hyper = hyper_of(file_);
  const ComputeDtype compute = as_shipped(GetParam().file) ? ComputeDtype::bfloat16
                               : dtype_ == at::kDouble     ? ComputeDtype::float64
                                                           : ComputeDtype::float32;
  if (const auto map = claim_map(name, hyper, compute)) run_map(*map);
  else run_trajectory(*claim_trajectory(name, hyper, compute));
  std::cout << "    largest error " << worst_ << " of " << rtol_ << " allowed\n";
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return case_name(info.param.file) + "_" + c10::toString(info.param.dtype);
}
INSTANTIATE_TEST_SUITE_P(Optimizers, Golden, ::testing::ValuesIn(claimed_cases()), name_of);
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.file.filename().string() << " in " << c10::toString(c.dtype);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Golden);

TEST(GoldenFolder, CountsCasesThatNothingClaimsYet) {
  const auto files = golden_files("optimizers");
  ASSERT_FALSE(files.empty()) << "no cases in " << golden_folder();
  std::vector<std::string> open;
  for (const auto& file : files)
    if (!is_claimed(file)) open.push_back(case_name(file));
  std::cout << "    " << files.size() - open.size() << " of " << files.size() << " cases claimed";
  for (size_t i = 0; i < open.size(); ++i) std::cout << (i ? ", " : "; not yet: ") << open[i];
  std::cout << "\n";
  EXPECT_LT(open.size(), files.size());
}

/// A tolerance that nothing can miss proves nothing: the same harness must refuse a wrong recipe.
TEST(GoldenFolder, RefusesAWrongRecipe) {
  const auto file = golden_folder() / "optimizers" / "keller_muon_wide.safetensors";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "this folder has no keller_muon_wide";
  const TensorFile f = load_safetensors(file);
  const Tensor init = f.at("param.init").to(at::kDouble).requires_grad_(true);
  Value hyper = hyper_of(f);
  hyper["momentum"] = 0.951;
  std::vector<Parameter> parameters{{infer_parameter("param", init, 0), init}};
  Optimizer optimizer(parameters, claim_trajectory("Muon (Keller Jordan)", hyper, ComputeDtype::float64)->routes);
  for (int64_t t = 0; t < 3; ++t) {
    parameters[0].tensor.mutable_grad() = f.at("grad." + three_digits(t)).to(at::kDouble);
    optimizer.step(f.at("lr")[t].item<double>());
  }
  const double moved = distance(f.at("param.002"), f.at("param.init"));
  EXPECT_GT(distance(init, f.at("param.002")), 1e3 * tolerance(f, at::kDouble) * moved);
}

}  // namespace
}  // namespace schatten::testing
