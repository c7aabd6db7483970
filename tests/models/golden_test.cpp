// Parity with transformers: logits, loss, gradients and ten training steps.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "support.h"

namespace schatten::test {
namespace {

namespace fs = std::filesystem;

struct Tolerance {
  double output, gradient, training;
};
constexpr Tolerance float32_tolerance{2e-5, 1e-4, 1e-4};

struct Case {
  std::string name, kind;
  Value config;
  TensorFile file;

  Tolerance float64_tolerance() const {
    const double rtol = std::stod(file.metadata.at("rtol"));
    return {rtol, rtol, 1e-8};
  }
  double atol() const { return std::stod(file.metadata.at("atol")); }
};

fs::path golden_folder() {
  const char* given = std::getenv("SCHATTEN_GOLDEN");
  return fs::path(given != nullptr ? given : SCHATTEN_TEST_GOLDEN_DIR) / "models";
}

std::string kind_of(const TensorFile& file) {
  const auto config = file.metadata.find("config");
  if (config == file.metadata.end()) return "";
  return parse_json(config->second).string_or("kind", "");
}

bool is_known(const std::string& kind) { return kind == "llama" || kind == "gpt2"; }

std::vector<fs::path> golden_files() {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(golden_folder())) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Case> golden_cases() {
  std::vector<Case> cases;
  for (const fs::path& path : golden_files()) {
    const std::string kind = kind_of(load_safetensors_header(path));
    if (!is_known(kind)) continue;
    TensorFile file = load_safetensors(path);
    Value config = parse_json(file.metadata.at("config"));
    cases.push_back({path.stem().string(), kind, std::move(config), std::move(file)});
  }
  return cases;
}

Architecture architecture_of(const Case& c) {
  const int64_t width = c.config.at("d").as_integer(), heads = c.config.at("heads").as_integer();
  return {.kind = c.kind == "gpt2" ? "gpt" : c.kind,
          .layers = c.config.at("layers").as_integer(),
          .width = width,
          .heads = heads,
          .kv_heads = c.config.integer_or("kv_heads", heads),
          .ffn = c.config.integer_or("ffn", 4 * width),
          .context = c.config.integer_or("n_positions", c.config.at("seq").as_integer()),
          .vocab = c.config.at("vocab").as_integer(),
          .tied = c.kind == "gpt2",
          .norm_eps = c.config.at("eps").as_real(),
          .rope_base = c.config.real_or("rope_base", 10000)};
}

TensorFile under(const TensorFile& file, const std::string& prefix) {
  TensorFile part;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) part.tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return part;
}

std::unique_ptr<LanguageModel> golden_model(const Case& c, at::ScalarType dtype) {
  auto model = make_model(architecture_of(c), dtype, Rng(0));
  model->load_weights(under(c.file, "w."));
  return model;
}

/// The loss is over B * (T - 1): each position predicts the next token.
Tensor golden_loss(const LanguageModel& model, const Case& c) {
  const Tensor& tokens = c.file.at("in.tokens");
  const int64_t length = tokens.size(1) - 1;
  return model.loss(tokens.narrow(1, 0, length), tokens.narrow(1, 1, length));
}

void check_gradients(const LanguageModel& model, const Case& c, double rtol) {
  for (const auto& [info, tensor] : model.parameters()) {
    const Tensor& stored = c.file.at("grad." + info.name);
    const bool conv1d = c.kind == "gpt2" && info.role == Role::hidden_matrix;
    expect_close(tensor.grad(), conv1d ? stored.t() : stored, rtol, c.atol(), info.name);
  }
}

void check_once(const Case& c, at::ScalarType dtype, const Tolerance& tolerance) {
  SCOPED_TRACE(c.name);
  const auto model = golden_model(c, dtype);
  expect_close(model->logits(c.file.at("in.tokens")), c.file.at("out.logits"), tolerance.output,
               c.atol(), "logits");
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

void check_training(const Case& c, at::ScalarType dtype, double rtol) {
  SCOPED_TRACE(c.name);
  const Value& train = c.config.at("train");
  const auto model = golden_model(c, dtype);
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
  for (const fs::path& path : golden_files()) {
    const std::string kind = kind_of(load_safetensors_header(path));
    if (is_known(kind)) {
      ++known;
    } else {
      unclaimed += " " + path.stem().string() + " (" + kind + ")";
    }
  }
  std::cout << known
            << " golden models run; no model claims:" << (unclaimed.empty() ? " (none)" : unclaimed)
            << "\n";
  EXPECT_GE(known, 3);
}

TEST(GoldenModels, Float64) {
  for (const Case& c : golden_cases()) check_once(c, at::kDouble, c.float64_tolerance());
}

TEST(GoldenModels, Float32) {
  for (const Case& c : golden_cases()) check_once(c, at::kFloat, float32_tolerance);
}

TEST(GoldenModels, BFloat16) {
  for (const Case& c : golden_cases()) {
    SCOPED_TRACE(c.name);
    const auto model = golden_model(c, at::kBFloat16);
    const Tensor loss = golden_loss(*model, c);
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    expect_close(loss, c.file.at("scalar.loss"), 3e-2, 0, "loss");
    expect_close(model->logits(c.file.at("in.tokens")), c.file.at("out.logits"), 3e-2, 0, "logits");
  }
}

TEST(GoldenModels, TenTrainingStepsFloat64) {
  for (const Case& c : golden_cases()) {
    check_training(c, at::kDouble, c.float64_tolerance().training);
  }
}

TEST(GoldenModels, TenTrainingStepsFloat32) {
  for (const Case& c : golden_cases()) check_training(c, at::kFloat, float32_tolerance.training);
}

}  // namespace
}  // namespace schatten::test
