#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <schatten/core/error.h>
#include <schatten/train/protocols.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

void clear_gradients(const std::vector<Parameter>& parameters) {
  for (const Parameter& p : parameters) p.tensor.mutable_grad().reset();
}

/// +1 and -1, one per entry, from the counter.
Tensor random_signs(const Parameter& p, const Rng& rng) {
  const Tensor signs = at::empty({p.info.numel()}, at::kFloat);
  const Rng own = rng.at(p.info.index);
  auto* out = signs.data_ptr<float>();
  for (int64_t i = 0; i < signs.numel(); ++i) out[i] = own.bits(static_cast<uint64_t>(i)) >> 63 ? 1.0F : -1.0F;
  return signs.view(p.info.shape).to(p.tensor.options().requires_grad(false));
}

double root_mean_square(const std::vector<Parameter>& parameters) {
  double squares = 0, entries = 0;
  for (const Parameter& p : parameters) {
    const double norm = p.tensor.detach().to(at::kFloat).norm().item<double>();
    squares += norm * norm;
    entries += static_cast<double>(p.info.numel());
  }
  return std::sqrt(squares / std::max(entries, 1.0));
}

}  // namespace

void sampled_label_gradients(const LanguageModel& model, const Batch& batch, const Rng& rng) {
  Tensor labels;
  {
    const at::NoGradGuard no_grad;
    const Tensor logits = model.logits(batch.tokens);
    const Tensor probabilities = at::softmax(logits.to(at::kFloat).flatten(0, 1), -1);
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(rng.key());
    labels = at::multinomial(probabilities, 1, true, generator).view(batch.targets.sizes());
  }
  clear_gradients(model.parameters());
  model.loss(batch.tokens, labels).backward();
}

void hutchinson_gradients(const std::vector<Parameter>& parameters, const std::function<void()>& gradients,
                          const Rng& rng) {
  const double eps = 1e-2 * root_mean_square(parameters);
  std::vector<Tensor> weights, signs, up;
  for (const Parameter& p : parameters) {
    weights.push_back(p.tensor.detach().clone());
    signs.push_back(random_signs(p, rng));
  }
  const auto gradients_at = [&](double offset) {
    {
      const at::NoGradGuard no_grad;
      for (size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.copy_(weights[i].add(signs[i], offset));
    }
    clear_gradients(parameters);
    gradients();
  };
  const auto restore = [&] {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.copy_(weights[i]);
  };
  try {
    gradients_at(eps);
    for (const Parameter& p : parameters) up.push_back(p.tensor.grad());
    gradients_at(-eps);
  } catch (...) {
    restore();
    throw;
  }
  restore();
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i)
    if (Tensor& grad = parameters[i].tensor.mutable_grad(); grad.defined() && up[i].defined())
      grad = (up[i] - grad).div_(2 * eps).mul_(signs[i]);
}

WeightAverage::WeightAverage(const std::vector<Parameter>& parameters, double decay)
    : parameters_(parameters), decay_(decay) {
  for (const Parameter& p : parameters_) average_.push_back(p.tensor.detach().clone());
}

void WeightAverage::update() {
  const at::NoGradGuard no_grad;
  ++updates_;
  const auto t = static_cast<double>(updates_);
  const double decay = std::min(decay_, (1 + t) / (10 + t));
  for (size_t i = 0; i < average_.size(); ++i) average_[i].lerp_(parameters_[i].tensor.detach(), 1 - decay);
}

void WeightAverage::swap() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < average_.size(); ++i) {
    const Tensor kept = parameters_[i].tensor.detach().clone();
    parameters_[i].tensor.copy_(average_[i]);
    average_[i] = kept;
  }
}

TensorFile WeightAverage::state() const {
  TensorFile file;
  for (size_t i = 0; i < average_.size(); ++i) file.tensors.emplace_back(parameters_[i].info.name, average_[i].clone());
  file.metadata["updates"] = std::to_string(updates_);
  return file;
}

void WeightAverage::load_state(const TensorFile& file) {
  for (size_t i = 0; i < average_.size(); ++i) {
    const Tensor* found = file.find(parameters_[i].info.name);
    if (!found || found->sizes() != average_[i].sizes())
      fail({file.who("weight average"), "'" + parameters_[i].info.name + "' as " + c10::str(average_[i].sizes()),
            found ? c10::str(found->sizes()) : "no such tensor", "The checkpoint belongs to another model."});
  }
  for (size_t i = 0; i < average_.size(); ++i) average_[i].copy_(file.at(parameters_[i].info.name));
  updates_ = std::stoll(file.metadata.at("updates"));
}

}  // namespace schatten
