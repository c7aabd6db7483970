// The golden language models, as the library's own: their file, their config, a model with their weights.
#pragma once
#include <schatten/models/language_model.h>
#include <support/golden.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace schatten::testing {

struct GoldenModel {
  std::string name, kind;
  Value config;
  TensorFile file;

  double rtol() const { return std::stod(file.metadata.at("rtol")); }  // of a float64 run
  double atol() const { return std::stod(file.metadata.at("atol")); }
};

inline std::string kind_of(const TensorFile& file) {
  const auto config = file.metadata.find("config");
  if (config == file.metadata.end()) return "";
  return parse_json(config->second).string_or("kind", "");
}

/// Whether the library has this architecture.
inline bool is_known(const std::string& kind) { return kind == "llama" || kind == "gpt2"; }

inline std::vector<GoldenModel> golden_models() {
  std::vector<GoldenModel> models;
  for (const auto& path : golden_files("models")) {
    const std::string kind = kind_of(load_safetensors_header(path));
    if (!is_known(kind)) continue;
    TensorFile file = load_safetensors(path);
    Value config = parse_json(file.metadata.at("config"));
    models.push_back({path.stem().string(), kind, std::move(config), std::move(file)});
  }
  return models;
}

inline Architecture architecture_of(const GoldenModel& m) {
  const int64_t width = m.config.at("d").as_integer(), heads = m.config.at("heads").as_integer();
  return {.kind = m.kind == "gpt2" ? "gpt" : m.kind,
          .layers = m.config.at("layers").as_integer(),
          .width = width,
          .heads = heads,
          .kv_heads = m.config.integer_or("kv_heads", heads),
          .ffn = m.config.integer_or("ffn", 4 * width),
          .context = m.config.integer_or("n_positions", m.config.at("seq").as_integer()),
          .vocab = m.config.at("vocab").as_integer(),
          .tied = m.kind == "gpt2",
          .norm_eps = m.config.at("eps").as_real(),
          .rope_base = m.config.real_or("rope_base", 10000)};
}

inline std::unique_ptr<LanguageModel> make_golden_model(const GoldenModel& m, at::ScalarType dtype) {
  TensorFile weights;
  for (const auto& [name, tensor] : m.file.tensors)
    if (name.starts_with("w.")) weights.tensors.emplace_back(name.substr(2), tensor);
  auto model = make_model(architecture_of(m), dtype, Rng(0));
  model->load_weights(weights);
  return model;
}

/// The loss is over B * (T - 1): each position predicts the next token.
inline Tensor golden_loss(const LanguageModel& model, const GoldenModel& m) {
  const Tensor& tokens = m.file.at("in.tokens");
  const int64_t length = tokens.size(1) - 1;
  return model.loss(tokens.narrow(1, 0, length), tokens.narrow(1, 1, length));
}

}  // namespace schatten::testing
