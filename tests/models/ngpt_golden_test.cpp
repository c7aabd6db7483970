// Parity of nGPT with its authors' code, and of the gated models: logits, losses, gradients, projection, training.
#include <iostream>
#include <string>
#include <vector>

#include "plain_training.h"

namespace schatten::test {
namespace {

using testing::architecture_of;
using testing::golden_loss;
using testing::GoldenModel;
using testing::make_golden_model;

std::vector<GoldenModel> cases() { return testing::golden_models(testing::is_ngpt); }

/// A form of the model and what the file calls it: "half." in "out.half.logits"; "" where there is only one.
struct Variant {
  RotaryForm rotary;
  std::string prefix;
};

std::vector<Variant> variants(const GoldenModel& c) {
  if (c.kind != "ngpt") return {{RotaryForm::half, ""}};
  std::vector<Variant> all;
  for (const RotaryForm form : {RotaryForm::half, RotaryForm::interleaved, RotaryForm::official}) {
    all.push_back({form, std::string(enum_name(form)) + "."});
  }
  return all;
}

/// Without what would lengthen or shorten the rows of `weight`.
Tensor tangent(const Tensor& gradient, const Tensor& weight) {
  return gradient - weight * (gradient * weight).sum(-1, true);
}

/// The embedding's gradient with the second norm where the model has none, or the reverse: the radial part differs.
void check_other_norm(const GoldenModel& c, const std::string& prefix, const Parameter& p, double rtol) {
  for (const std::string kind : {"grad_norenorm.", "grad_renorm."}) {
    const Tensor* other = c.file.find(kind + prefix + p.info.name);
    if (!other) continue;
    const Tensor ours = p.tensor.grad().to(at::kDouble), weight = p.tensor.detach().to(at::kDouble);
    expect_close(tangent(ours, weight), tangent(*other, weight), rtol, c.atol(), kind + p.info.name);
    EXPECT_GT((ours - *other).abs().max().item<double>(), 1e-3 * other->abs().max().item<double>());
  }
}

/// Returns how many gradients the file has.
int check_gradients(const LanguageModel& model, const GoldenModel& c, const std::string& prefix, double rtol) {
  int compared = 0;
  for (const Parameter& p : model.parameters()) {
    const Tensor* stored = c.file.find("grad." + prefix + p.info.name);
    if (!stored) continue;
    ++compared;
    expect_close(p.tensor.grad(), *stored, rtol, c.atol(), p.info.name);
    check_other_norm(c, prefix, p, rtol);
  }
  EXPECT_TRUE(compared == 0 || compared == static_cast<int>(model.parameters().size())) << compared;
  return compared;
}

int check_once(const GoldenModel& c, const Variant& v, at::ScalarType dtype, double output, double gradient) {
  SCOPED_TRACE(c.name + " " + v.prefix);
  const auto model = make_golden_model(c, dtype, v.rotary);
  expect_close(model->logits(c.file.at("in.tokens")), c.file.at("out." + v.prefix + "logits"), output, c.atol(),
               "logits");
  const Tensor loss = golden_loss(*model, c);
  expect_close(loss, c.file.at("scalar." + v.prefix + "loss"), output, c.atol(), "loss");
  loss.backward();
  return check_gradients(*model, c, v.prefix, gradient);
}

TEST(GoldenNgpt, Float64) {
  int compared = 0;
  for (const GoldenModel& c : cases()) {
    for (const Variant& v : variants(c)) {
      const int gradients = check_once(c, v, at::kDouble, c.rtol(), c.rtol());
      compared += gradients;
      std::cout << "    " << c.name << " " << v.prefix << " " << gradients << " gradients\n";
    }
  }
  EXPECT_GE(compared, 23 + 27 + 19);
}

TEST(GoldenNgpt, Float32) {
  for (const GoldenModel& c : cases()) {
    for (const Variant& v : variants(c)) check_once(c, v, at::kFloat, 2e-5, 1e-4);
  }
}

TEST(GoldenNgpt, BFloat16) {
  for (const GoldenModel& c : cases()) {
    SCOPED_TRACE(c.name);
    const Variant v = variants(c).front();
    const auto model = make_golden_model(c, at::kBFloat16, v.rotary);
    expect_close(golden_loss(*model, c), c.file.at("scalar." + v.prefix + "loss"), 3e-2, 0, "loss");
    expect_close(model->logits(c.file.at("in.tokens")), c.file.at("out." + v.prefix + "logits"), 3e-2, 0, "logits");
  }
}

/// As each code has it: the plan's adds its eps to the norm.
Tensor projected(const Tensor& weight, const ParameterInfo& info, const std::string& kind) {
  if (info.unit_axis < 0) return weight;
  const double eps = kind == "ngpt_gated_plan" ? 1e-8 : 0;
  return weight / (weight.square().sum(info.unit_axis, true).sqrt() + eps);
}

/// The axes that the model states are those of its authors' projection.
TEST(GoldenNgpt, ProjectsAlongTheStatedAxes) {
  int raw = 0, next = 0;
  for (const GoldenModel& c : cases()) {
    SCOPED_TRACE(c.name);
    const std::string prefix = "grad." + variants(c).front().prefix;
    for (const ParameterInfo& info : parameter_infos(architecture_of(c))) {
      const Tensor& weight = c.file.at("w." + info.name);
      EXPECT_EQ(info.unit_axis >= 0, weight.dim() == 2) << info.name;
      expect_close(projected(weight, info, c.kind), weight, 2e-8, 0, info.name);
      if (const Tensor* before = c.file.find("w_raw." + info.name)) {
        ++raw;
        expect_close(projected(*before, info, c.kind), weight, 1e-14, 0, info.name + " from w_raw");
      }
      if (const Tensor* after = c.file.find("w_next." + info.name)) {
        ++next;
        const Tensor stepped = weight - c.file.at("scalar.eta") * c.file.at(prefix + info.name);
        expect_close(projected(stepped, info, c.kind), *after, 1e-14, 0, info.name + " to w_next");
      }
    }
  }
  std::cout << "    " << raw << " projected from w_raw, " << next << " stepped to w_next\n";
  EXPECT_GE(raw, 19 + 6);
}

/// What the vectors are stored as, and the plan's constants.
TEST(GoldenNgpt, ConstantsAreThose) {
  for (const GoldenModel& c : cases()) {
    const Value ours = transformers_config(architecture_of(c));
    int compared = 0;
    for (const auto& [key, value] : c.config.as_table()) {
      if (!key.ends_with("_init") && !key.ends_with("_scale")) continue;
      ++compared;
      EXPECT_NEAR(ours.at(key).as_real(), value.as_real(), 1e-15) << c.name << " " << key;
    }
    EXPECT_GE(compared, 3) << c.name;
    const Tensor* scale = c.file.find("w.logit_scale");
    EXPECT_EQ(scale ? scale->item<double>() : 15, 15);
  }
}

void check_training(const GoldenModel& c, at::ScalarType dtype, double rtol) {
  SCOPED_TRACE(c.name);
  const auto model = make_golden_model(c, dtype);
  const auto project = [&] {
    for (const auto& [info, tensor] : model->parameters()) {
      tensor.detach().copy_(projected(tensor.detach(), info, c.kind));
    }
  };
  expect_trained(train_plainly(*model, c, project), c, "out.half.train.", rtol);
}

TEST(GoldenNgpt, TenTrainingSteps) {
  int trained = 0;
  for (const GoldenModel& c : cases()) {
    if (!c.config.find("train")) continue;
    ++trained;
    check_training(c, at::kDouble, 1e-8);
    check_training(c, at::kFloat, 1e-4);
  }
  EXPECT_GE(trained, 1);
}

}  // namespace
}  // namespace schatten::test
