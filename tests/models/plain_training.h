// Training in plain tensor code, for the golden runs: AdamW as PyTorch has it, clipping, losses and norms.
#pragma once
#include <support/golden_models.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "support.h"

namespace schatten::test {

inline double gradient_norm(const LanguageModel& model) {
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

/// One loss more than norms: the last is that of the trained model. Norms are those before clipping.
struct Trained {
  std::vector<double> losses, norms;
};

inline Trained train_plainly(const LanguageModel& model, const testing::GoldenModel& c, auto&& after_step) {
  const Value& train = c.config.at("train");
  PlainAdamW adamw(train);
  Trained out;
  for (int64_t i = 0; i < train.at("steps").as_integer(); ++i) {
    for (const Parameter& p : model.parameters()) p.tensor.mutable_grad() = Tensor();
    const Tensor loss = testing::golden_loss(model, c);
    loss.backward();
    out.losses.push_back(loss.item<double>());
    out.norms.push_back(gradient_norm(model));
    adamw.update(model, std::min(1.0, train.at("clip").as_real() / (out.norms.back() + 1e-6)));
    after_step();
  }
  out.losses.push_back(testing::golden_loss(model, c).item<double>());
  return out;
}

inline void expect_trained(const Trained& got, const testing::GoldenModel& c, const std::string& prefix, double rtol) {
  expect_close(at::tensor(got.losses, at::kDouble), c.file.at(prefix + "losses"), rtol, 0, "losses");
  expect_close(at::tensor(got.norms, at::kDouble), c.file.at(prefix + "grad_norms"), rtol, 0, "norms");
}

}  // namespace schatten::test
