// What the trainer needs from a model. Models are plain tensors with requires_grad, and know nothing of optimizers.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/parameter_info.h>
#include <schatten/core/rng.h>
#include <schatten/core/safetensors.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace schatten {

/// [model] of a config. A preset fills everything; keys given beside it win. 0 (or -1 for `tied`) means: the preset's.
struct ModelOptions {
  std::string preset = "llama-small";
  int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, ffn = 0, context = 0, vocab = 0;
  int tied = -1;  // 1: the head shares the embedding
  double init_std = 0.02;
  std::string init_from{};  // a .safetensors file with transformers' names, or a run directory

  void fields(auto&& visit) {
    visit("preset", preset,
          "llama-tiny, llama-small, llama-60m, llama-135m, llama-350m, llama-1b, gpt-small, gpt2-124m, ngpt-tiny, "
          "ngpt-small, ngpt-gated-small, ngpt-plan-tiny, ngpt-plan-small (sizes of the llama presets)");
    visit("layers", layers, "transformer blocks (0: the preset's)");
    visit("width", width, "residual width (0: the preset's)");
    visit("heads", heads, "attention heads (0: the preset's)");
    visit("kv_heads", kv_heads, "key/value heads, grouped when fewer than heads (0: the preset's)");
    visit("ffn", ffn, "feed-forward width (0: the preset's)");
    visit("context", context, "sequence length (0: the preset's)");
    visit("vocab", vocab, "vocabulary (0: what the data needs)");
    visit("tied", tied, "1: head shares the embedding, 0: own head, -1: the preset's");
    visit("init_std", init_std, "standard deviation of initial matrices (nGPT: none, its rows are unit)");
    visit("init_from", init_from, "start from these weights (.safetensors, transformers' names)");
  }
};

/// Which channels of a head rotary positions turn together: j and j + head_dim/2, or 2j and 2j + 1. `official` is what
/// NVIDIA/ngpt computes and no rotation: for comparison with that code only.
enum class RotaryForm { half, interleaved, official };
constexpr auto enum_names(RotaryForm) { return std::to_array<std::string_view>({"half", "interleaved", "official"}); }

/// The numbers that a model is built from, all filled in.
struct Architecture {
  std::string kind;  // "llama", "gpt", "ngpt", "ngpt_gated" or "ngpt_gated_plan"
  int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, ffn = 0, context = 0, vocab = 0;
  bool tied = false;
  double init_std = 0.02, norm_eps = 1e-6, rope_base = 10000;
  RotaryForm rotary = RotaryForm::half;  // others: nGPT only
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const Architecture& architecture() const = 0;
  /// [B, T] int64 -> [B, T, V]
  virtual Tensor logits(const Tensor& tokens) const = 0;
  /// Mean cross-entropy in nats over all B*T targets; [B, T], [B, T] -> scalar.
  Tensor loss(const Tensor& tokens, const Tensor& targets) const;
  /// In a fixed order; a tied head is listed once, as the embedding.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  int64_t num_parameters() const;
  /// Weights under transformers' names and layouts (GPT-2's Conv1D weights are stored [in, out] there); nGPT, which it
  /// does not have, under those of the published code.
  /// They may share memory with the parameters: save or clone before the next step.
  TensorFile weights() const;
  /// The reverse. Errors name missing, unexpected and misshaped tensors, and change nothing then.
  void load_weights(const TensorFile& file);
  void zero_grad();  // gradients become undefined

  /// While on, every forward pass keeps the largest softmax input of each query head: signed, over the batch and all
  /// pairs that the causal mask allows, in the scale that the softmax sees. QK-clip goes by it. Outputs and gradients do
  /// not change by a bit; off costs nothing.
  void watch_logits(bool on);
  /// One [heads] float tensor per block, the maximum since the last reset; -inf where nothing was seen.
  std::vector<Tensor> largest_logits() const;
  void reset_largest_logits();

 protected:
  std::vector<Parameter> parameters_;
  /// For attention: q [B, heads, T, d], k [B, kv_heads, T, d], logits = scale q k^T.
  void see_logits(int64_t block, const Tensor& q, const Tensor& k, double scale) const;
  /// True for parameters whose transformers layout is the transpose of ours.
  virtual bool stored_transposed(const ParameterInfo&) const { return false; }
  /// Our name -> transformers' name.
  virtual std::string stored_name(const ParameterInfo& info) const { return info.name; }

 private:
  bool watching_ = false;
  mutable std::vector<Tensor> largest_;  // a forward pass is const, and this no part of the model

  /// The parameters as the file has them: views, so reading and writing go the same way.
  std::vector<std::pair<std::string, Tensor>> stored_views() const;
};

/// Resolves the preset; `vocab` is what the data needs when the options leave it open.
Architecture resolve_architecture(const ModelOptions& options, int64_t data_vocab);
/// Initial weights are draws of `rng.of("init").at(parameter index)`: the same seed gives the same bits.
std::unique_ptr<LanguageModel> make_model(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
std::vector<std::string> model_preset_names();
/// What a model of this architecture would list, nothing allocated.
std::vector<ParameterInfo> parameter_infos(const Architecture& architecture);
int64_t num_parameters(const Architecture& architecture);
/// transformers' config.json for these weights; nGPT's names itself by model_type and claims no class there.
Value transformers_config(const Architecture& architecture);

}  // namespace schatten
