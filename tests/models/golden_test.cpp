// Parity with transformers: logits, loss, gradients and ten training steps.
#include <support/golden_models.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "support.h"

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

double gradient_norm(const LanguageModel& model) {
  double squares = 0;
  for (const Parameter& p : model.parameters()) {
    squares += p.tensor.grad().to(at::kDouble).square().sum().item<double>();
  }
  return std::sqrt(squares);
}

/// AdamW as PyTorch has it, written out.
struct PlainAdamW {
  double lr, beta1, beta2, eps, decay;
  std::vector<Tensor> first{}, second{};
  int step = 0;

  explicit PlainAdamW(const Value& train)
      : lr(train.at("lr").as_real()),
        beta1(train.at("betas").as_array()[0].as_real()),
        beta2(train.at("betas").as_array()[1].as_real()),
        eps(train.at("eps").as_real()),
        decay(train.at("weight_decay").as_real()) {}

  void update(const LanguageModel& model, double gradient_scale) {
    const c10::NoGradGuard no_grad;
    ++step;
    for (size_t i = 0; i < model.parameters().size(); ++i) {
      const Tensor weight = model.parameters()[i].tensor.detach();
      if (first.size() == i) first.push_back(at::zeros_like(weight));
      if (second.size() == i) second.push_back(at::zeros_like(weight));
      update_one(weight, model.parameters()[i].tensor.grad() * gradient_scale, i);
    }
  }

  void update_one(const Tensor& weight, const Tensor& gradient, size_t i) {
    if (weight.dim() >= 2) weight.mul_(1 - lr * decay);
    first[i].mul_(beta1).add_(gradient, 1 - beta1);
    second[i].mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
    const double correction1 = 1 - std::pow(beta1, step), correction2 = 1 - std::pow(beta2, step);
    weight.addcdiv_(first[i], (second[i] / correction2).sqrt_().add_(eps), -lr / correction1);
  }
};

void check_training(const GoldenModel& c, at::ScalarType dtype, double rtol) {
  SCOPED_TRACE(c.name);
  const Value& train = c.config.at("train");
  const auto model = make_golden_model(c, dtype);
  PlainAdamW adamw(train);
  std::vector<double> losses, norms;
  for (int64_t i = 0; i < train.at("steps").as_integer(); ++i) {
    model->zero_grad();
    const Tensor loss = golden_loss(*model, c);
    loss.backward();
    losses.push_back(loss.item<double>());
    norms.push_back(gradient_norm(*model));
    adamw.update(*model, std::min(1.0, train.at("clip").as_real() / (norms.back() + 1e-6)));
  }
  losses.push_back(golden_loss(*model, c).item<double>());
  expect_close(at::tensor(losses, at::kDouble), c.file.at("out.train.losses"), rtol, 0, "losses");
  expect_close(at::tensor(norms, at::kDouble), c.file.at("out.train.grad_norms"), rtol, 0, "norms");
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
  EXPECT_GE(known, 3);
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
