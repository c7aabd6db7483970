// The golden language models, as the library's own: their file, their config, a model with their weights.
#pragma once
#include <schatten/models/language_model.h>
#include <support/golden.h>

#include <memory>
#include <string>
#include <string_view>
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

/// The nGPT files do not name themselves: their settings do.
inline std::string kind_of(const TensorFile& file) {
  const auto found = file.metadata.find("config");
  if (found == file.metadata.end()) return "";
  const Value config = parse_json(found->second);
  if (config.find("use_nGPT")) return "ngpt";
  if (config.find("logit_scale")) return "ngpt_gated_plan";
  if (config.find("gate_init")) return "ngpt_gated";
  return config.string_or("kind", "");
}

inline bool is_of_transformers(const std::string& kind) { return kind == "llama" || kind == "gpt2"; }
inline bool is_ngpt(const std::string& kind) { return kind.starts_with("ngpt"); }

/// Whether the library has this architecture.
inline bool is_known(const std::string& kind) { return is_of_transformers(kind) || is_ngpt(kind); }

inline std::vector<GoldenModel> golden_models(bool (*wanted)(const std::string&)) {
  std::vector<GoldenModel> models;
  for (const auto& path : golden_files("models")) {
    const std::string kind = kind_of(load_safetensors_header(path));
    if (!wanted(kind)) continue;
    TensorFile file = load_safetensors(path);
    Value config = parse_json(file.metadata.at("config"));
    models.push_back({path.stem().string(), kind, std::move(config), std::move(file)});
  }
  return models;
}

inline std::vector<GoldenModel> golden_models() { return golden_models(is_of_transformers); }

inline Architecture architecture_of(const GoldenModel& m) {
  const int64_t width = m.config.at("d").as_integer(), heads = m.config.at("heads").as_integer();
  const int64_t positions = m.config.integer_or("block", m.config.at("seq").as_integer());
  return {.kind = m.kind == "gpt2" ? "gpt" : m.kind,
          .layers = m.config.at("layers").as_integer(),
          .width = width,
          .heads = heads,
          .kv_heads = m.config.integer_or("kv_heads", heads),
          .ffn = m.config.integer_or("ffn", 4 * width),
          .context = m.config.integer_or("n_positions", positions),
          .vocab = m.config.at("vocab").as_integer(),
          .tied = m.kind == "gpt2",
          .norm_eps = is_ngpt(m.kind) ? 0 : m.config.at("eps").as_real(),
          .rope_base = m.config.real_or("rope_base", 10000)};
}

inline std::unique_ptr<LanguageModel> make_golden_model(const GoldenModel& m, at::ScalarType dtype,
                                                        RotaryForm rotary = RotaryForm::half) {
  TensorFile weights;
  for (const auto& [name, tensor] : m.file.tensors)
    if (name.starts_with("w.") && name != "w.logit_scale")  // a constant of that model
      weights.tensors.emplace_back(name.substr(2), tensor);
  Architecture architecture = architecture_of(m);
  architecture.rotary = rotary;
  auto model = make_model(architecture, dtype, Rng(0));
  model->load_weights(weights);
  return model;
}

/// The targets of the file; without any, each position predicts the next token, over B * (T - 1).
inline Tensor golden_loss(const LanguageModel& model, const GoldenModel& m) {
  const Tensor& tokens = m.file.at("in.tokens");
  if (const Tensor* targets = m.file.find("in.targets")) return model.loss(tokens, *targets);
  const int64_t length = tokens.size(1) - 1;
  return model.loss(tokens.narrow(1, 0, length), tokens.narrow(1, 1, length));
}

}  // namespace schatten::testing
