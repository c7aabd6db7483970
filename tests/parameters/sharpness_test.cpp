// The ascent against the authors' numbers; the way back to the bit.
#include <ATen/core/grad_mode.h>
#include <schatten/core/rng.h>
#include <schatten/parameters/sharpness.h>

#include <optional>
#include <stdexcept>

#include "parameters/support.h"

namespace schatten::testing {
namespace {

std::string three_digits(int64_t t) {
  const std::string digits = std::to_string(t);
  return std::string(3 - std::min<size_t>(3, digits.size()), '0') + digits;
}

class GoldenSharpness : public GoldenCase {
 protected:
  void run_step(int64_t t, const SharpnessOptions& options);
  std::vector<std::string> names_;
};

/// Step t begins at the recorded weights after t - 1: the climb is checked, not the base optimizer.
void GoldenSharpness::run_step(int64_t t, const SharpnessOptions& options) {
  const std::string now = three_digits(t), then = t == 0 ? "init" : three_digits(t - 1);
  std::vector<Tensor> parameters, grads, before;
  for (const std::string& name : names_) {
    parameters.push_back(at(name + "/param." + then).requires_grad_(true));
    grads.push_back(at(name + "/grad." + now));
    parameters.back().mutable_grad() = grads.back();
    before.push_back(parameters.back().detach().clone());
  }
  const auto steps = sharpness_ascent(parameters, grads, options);
  Perturbation up(parameters, options);
  for (size_t i = 0; i < names_.size(); ++i) {
    const Tensor there = file_.at(names_[i] + "/perturbed." + now).to(at::kDouble);
    const Tensor climb = there - file_.at(names_[i] + "/param." + then).to(at::kDouble);
    const std::string what = names_[i] + " step " + now;
    expect_near(steps[i], climb, what);
    const double rounding = dtype_ == at::kFloat ? 1e-7 * there.norm().item<double>() : 0;
    EXPECT_LE(distance(parameters[i], there), rtol_ * climb.norm().item<double>() + rounding) << what;
  }
  up.restore();
  for (size_t i = 0; i < names_.size(); ++i) EXPECT_TRUE(at::equal(parameters[i], before[i])) << names_[i];
}

TEST_P(GoldenSharpness, ClimbsAsTheAuthorsDo) {
  const Value hyper = hyper_of(file_);
  const Value shapes = parse_json(file_.metadata.at("params"));
  for (const auto& [name, shape] : shapes.as_table()) names_.push_back(name);
  const SharpnessOptions options{.rho = hyper.at("rho").as_real(), .adaptive = hyper.at("adaptive").as_bool()};
  const int64_t steps = std::stoll(file_.metadata.at("steps"));
  ASSERT_GT(steps, 0);
  for (int64_t t = 0; t < steps; ++t) run_step(t, options);
}
INSTANTIATE_TEST_SUITE_P(Optimizers, GoldenSharpness, ::testing::ValuesIn(cases_of("SAM")), name_of);

std::vector<Tensor> some_parameters(at::ScalarType dtype = at::kFloat) {
  std::vector<Tensor> all;
  for (const auto& shape : {std::vector<int64_t>{5, 7}, {3}, {2, 3, 2, 2}}) {
    const Rng rng = Rng(8).of("sharpness").at(static_cast<int64_t>(all.size()));
    all.push_back(rng.normal(shape, dtype).requires_grad_(true));
    all.back().mutable_grad() = rng.of("gradient").normal(shape, dtype);
  }
  return all;
}
std::vector<Tensor> copies(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> out;
  for (const Tensor& t : tensors) out.push_back(t.detach().clone());
  return out;
}
bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!at::equal(a[i], b[i])) return false;
  return a.size() == b.size();
}

/// |e| = rho over all parameters together; in units of |W| for the adaptive form.
TEST(Sharpness, TheClimbHasLengthRho) {
  for (const bool adaptive : {false, true}) {
    const auto parameters = some_parameters(at::kDouble);
    std::vector<Tensor> grads;
    for (const Tensor& p : parameters) grads.push_back(p.grad());
    double squares = 0;
    const auto steps = sharpness_ascent(parameters, grads, {.rho = 0.3, .adaptive = adaptive});
    for (size_t i = 0; i < steps.size(); ++i) {
      const Tensor unit = adaptive ? steps[i] / parameters[i].detach() : steps[i];
      squares += unit.square().sum().item<double>();
      EXPECT_TRUE((steps[i] * grads[i]).ge(0).all().item<bool>()) << "downhill";
    }
    EXPECT_NEAR(std::sqrt(squares), 0.3, 1e-12);
  }
}

/// One norm for all; each climbs by its own radius and form.
TEST(Sharpness, ParametersMayHaveTheirOwnRadius) {
  const auto parameters = some_parameters(at::kDouble);
  std::vector<Tensor> grads;
  for (const Tensor& p : parameters) grads.push_back(p.grad());
  const auto together = sharpness_ascent(parameters, grads, {.rho = 0.3});
  const auto apart = each_sharpness_ascent(parameters, grads, {{0.3}, {0.6}, {0}});
  EXPECT_TRUE(at::equal(apart[0], together[0]));
  EXPECT_TRUE(at::allclose(apart[1], 2 * together[1], 1e-15, 0));
  EXPECT_EQ(apart[2].abs().max().item<double>(), 0);
  EXPECT_THROW(each_sharpness_ascent(parameters, grads, {{0.3}}), UsageError);
}

TEST(Sharpness, MissingAndZeroGradientsStay) {
  auto parameters = some_parameters();
  parameters[1].mutable_grad() = Tensor();
  const auto before = copies(parameters);
  {
    const Perturbation up(parameters, {});
    EXPECT_FALSE(at::equal(parameters[0], before[0]));
    EXPECT_TRUE(at::equal(parameters[1], before[1]));
  }
  for (Tensor& p : parameters) p.mutable_grad() = at::zeros_like(p);
  const Perturbation up(parameters, {});
  EXPECT_TRUE(same_bits(parameters, before));
}

TEST(Sharpness, RestoresTheExactBits) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto parameters = some_parameters(dtype), before = copies(parameters);
    Perturbation up(parameters, {.rho = 5});
    EXPECT_FALSE(same_bits(parameters, before));
    up.restore();
    EXPECT_TRUE(same_bits(parameters, before)) << c10::toString(dtype);
  }
}

TEST(Sharpness, AnExceptionOrTheEndOfAScopeRestores) {
  const auto parameters = some_parameters(), before = copies(parameters);
  EXPECT_THROW(
      {
        const Perturbation up(parameters, {.rho = 5});
        EXPECT_FALSE(same_bits(parameters, before));
        throw std::runtime_error("the second pass failed");
      },
      std::runtime_error);
  EXPECT_TRUE(same_bits(parameters, before));
}

/// What happens to W after restore() is not undone by the destructor.
TEST(Sharpness, RestoresOnce) {
  const auto parameters = some_parameters();
  Tensor after;
  {
    Perturbation up(parameters, {});
    up.restore();
    const at::NoGradGuard no_grad;
    Tensor first = parameters[0];
    after = first.add_(1).clone();
    up.restore();
  }
  EXPECT_TRUE(at::equal(parameters[0], after));
}

/// Half types: W + e is rounded once, from float32.
TEST(Sharpness, HalfTypesRoundOnce) {
  const auto parameters = some_parameters(at::kBFloat16), before = copies(parameters);
  std::vector<Tensor> grads;
  for (const Tensor& p : parameters) grads.push_back(p.grad());
  const auto steps = sharpness_ascent(parameters, grads, {.rho = 0.7});
  const Perturbation up(parameters, {.rho = 0.7});
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(parameters[i], (before[i].to(at::kFloat) + steps[i]).to(at::kBFloat16)));
  }
}

TEST(Sharpness, RefusesWhatCannotBe) {
  const auto parameters = some_parameters();
  const auto before = copies(parameters);
  EXPECT_NE(error_of([&] { Perturbation(parameters, {.rho = -1}); }).find("rho finite and >= 0, got -1"),
            std::string::npos);
  EXPECT_NE(error_of([&] { Perturbation(parameters, {.rho = NAN}); }), "");
  EXPECT_NE(error_of([&] { sharpness_ascent(parameters, {}, {}); }).find("per parameter, 3, got 0"), std::string::npos);
  const std::vector<Tensor> wrong = {at::zeros({7, 5}), Tensor(), Tensor()};
  EXPECT_NE(error_of([&] { sharpness_ascent(parameters, wrong, {}); }).find("a gradient of shape [5, 7], got [7, 5]"),
            std::string::npos);
  EXPECT_TRUE(same_bits(parameters, before));
}

}  // namespace
}  // namespace schatten::testing
