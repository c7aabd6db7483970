// Parity with transformers: logits, loss, gradients and ten training steps.
#include <support/golden_models.h>

#include <iostream>
#include <string>

#include "plain_training.h"

namespace schatten::test {
namespace {

struct Tolerance {
  double output, gradient, training;
};
constexpr Tolerance float32_tolerance{2e-5, 1e-4, 1e-4};

using testing::golden_files;
using testing::golden_loss;
using testing::golden_models;
using testing::GoldenModel;
using testing::is_known;
using testing::kind_of;
using testing::make_golden_model;

Tolerance float64_tolerance(const GoldenModel& m) { return {m.rtol(), m.rtol(), 1e-8}; }

void check_gradients(const LanguageModel& model, const GoldenModel& c, double rtol) {
  for (const auto& [info, tensor] : model.parameters()) {
    const Tensor& stored = c.file.at("grad." + info.name);
    const bool conv1d = c.kind == "gpt2" && info.role == Role::hidden_matrix;
    expect_close(tensor.grad(), conv1d ? stored.t() : stored, rtol, c.atol(), info.name);
  }
}

void check_once(const GoldenModel& c, at::ScalarType dtype, const Tolerance& tolerance) {
  SCOPED_TRACE(c.name);
  const auto model = make_golden_model(c, dtype);
  expect_close(model->logits(c.file.at("in.tokens")), c.file.at("out.logits"), tolerance.output, c.atol(), "logits");
  const Tensor loss = golden_loss(*model, c);
  expect_close(loss, c.file.at("scalar.loss"), tolerance.output, c.atol(), "loss");
  loss.backward();
  check_gradients(*model, c, tolerance.gradient);
}

void check_training(const GoldenModel& c, at::ScalarType dtype, double rtol) {
  SCOPED_TRACE(c.name);
  const auto model = make_golden_model(c, dtype);
  expect_trained(train_plainly(*model, c, [] {}), c, "out.train.", rtol);
}

TEST(GoldenModels, EveryKnownCaseIsFound) {
  int known = 0;
  std::string unclaimed;
  for (const auto& path : golden_files("models")) {
    const std::string kind = kind_of(load_safetensors_header(path));
    if (is_known(kind)) {
      ++known;
    } else {
      unclaimed += " " + path.stem().string() + " (" + kind + ")";
    }
  }
  std::cout << known << " golden models run; no model claims:" << (unclaimed.empty() ? " (none)" : unclaimed) << "\n";
  EXPECT_GE(known, 6);
}

TEST(GoldenModels, Float64) {
  for (const GoldenModel& c : golden_models()) check_once(c, at::kDouble, float64_tolerance(c));
}

TEST(GoldenModels, Float32) {
  for (const GoldenModel& c : golden_models()) check_once(c, at::kFloat, float32_tolerance);
}

TEST(GoldenModels, BFloat16) {
  for (const GoldenModel& c : golden_models()) {
    SCOPED_TRACE(c.name);
    const auto model = make_golden_model(c, at::kBFloat16);
    const Tensor loss = golden_loss(*model, c);
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    expect_close(loss, c.file.at("scalar.loss"), 3e-2, 0, "loss");
    expect_close(model->logits(c.file.at("in.tokens")), c.file.at("out.logits"), 3e-2, 0, "logits");
  }
}

TEST(GoldenModels, TenTrainingStepsFloat64) {
  for (const GoldenModel& c : golden_models()) {
    check_training(c, at::kDouble, float64_tolerance(c).training);
  }
}

TEST(GoldenModels, TenTrainingStepsFloat32) {
  for (const GoldenModel& c : golden_models()) check_training(c, at::kFloat, float32_tolerance.training);
}

}  // namespace
}  // namespace schatten::test
