#include <ATen/ATen.h>
#include <schatten/models/building_impl.h>
#include <schatten/models/llama.h>
#include <schatten/models/rotary_impl.h>

#include <cmath>
#include <string>
#include <utility>

namespace schatten {
namespace {

std::string block_name(int64_t block, const std::string& rest) {
  return "model.layers." + std::to_string(block) + "." + rest;
}

struct Block {
  Tensor attention_norm, query, key, value, output, feed_norm, gate, up, down;
};

class Llama final : public LanguageModel {
 public:
  Llama(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
  const Architecture& architecture() const override { return architecture_; }
  Tensor logits(const Tensor& tokens) const override;

 private:
  Block find_block(int64_t index) const;
  Tensor normalize(const Tensor& x, const Tensor& gain) const;
  Tensor attention(const Tensor& x, int64_t index, const Rotary& rotary) const;

  Architecture architecture_;
  Rotary rotary_;
  std::vector<Block> blocks_;
  Tensor embedding_, final_norm_, head_;
};

Llama::Llama(const Architecture& architecture, at::ScalarType dtype, const Rng& rng)
    : architecture_(architecture), rotary_(architecture, dtype) {
  const double deviation = architecture.init_std;
  parameters_ =
      make_leaves(llama_parameters(architecture), dtype, rng, [=](const ParameterInfo&) { return deviation; });
  for (int64_t i = 0; i < architecture.layers; ++i) blocks_.push_back(find_block(i));
  embedding_ = leaf(parameters_, "model.embed_tokens.weight");
  final_norm_ = leaf(parameters_, "model.norm.weight");
  head_ = architecture.tied ? embedding_ : leaf(parameters_, "lm_head.weight");
}

Block Llama::find_block(int64_t index) const {
  const auto find = [&](const char* rest) { return leaf(parameters_, block_name(index, rest)); };
  return {.attention_norm = find("input_layernorm.weight"),
          .query = find("self_attn.q_proj.weight"),
          .key = find("self_attn.k_proj.weight"),
          .value = find("self_attn.v_proj.weight"),
          .output = find("self_attn.o_proj.weight"),
          .feed_norm = find("post_attention_layernorm.weight"),
          .gate = find("mlp.gate_proj.weight"),
          .up = find("mlp.up_proj.weight"),
          .down = find("mlp.down_proj.weight")};
}

Tensor Llama::normalize(const Tensor& x, const Tensor& gain) const {
  return at::rms_norm(x, {architecture_.width}, gain, architecture_.norm_eps);
}

Tensor Llama::attention(const Tensor& x, int64_t index, const Rotary& rotary) const {
  const Block& block = blocks_[static_cast<size_t>(index)];
  const int64_t batch = x.size(0), length = x.size(1);
  const int64_t heads = architecture_.heads, kv_heads = architecture_.kv_heads;
  const auto project = [&](const Tensor& weight, int64_t count) {
    return at::linear(x, weight).view({batch, length, count, architecture_.width / heads});
  };
  const Tensor q = rotary.turn(project(block.query, heads)).transpose(1, 2);
  const Tensor k = rotary.turn(project(block.key, kv_heads)).transpose(1, 2);
  const Tensor v = project(block.value, kv_heads).transpose(1, 2);
  see_logits(index, q, k, 1 / std::sqrt(static_cast<double>(q.size(-1))));
  const Tensor mixed =
      at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true, /*scale=*/{},
                                       /*enable_gqa=*/heads != kv_heads);
  return at::linear(mixed.transpose(1, 2).reshape({batch, length, architecture_.width}), block.output);
}

Tensor feed_forward(const Tensor& x, const Block& block) {
  return at::linear(at::silu(at::linear(x, block.gate)) * at::linear(x, block.up), block.down);
}

Tensor Llama::logits(const Tensor& tokens) const {
  check_tokens(tokens, architecture_, "tokens");
  const Rotary rotary = rotary_.first(tokens.size(1));
  Tensor x = at::embedding(embedding_, tokens);
  for (int64_t i = 0; i < architecture_.layers; ++i) {
    const Block& block = blocks_[static_cast<size_t>(i)];
    x = x + attention(normalize(x, block.attention_norm), i, rotary);
    x = x + feed_forward(normalize(x, block.feed_norm), block);
  }
  return at::linear(normalize(x, final_norm_), head_);
}

void add_attention(ParameterList& list, const Architecture& a, int block) {
  const int64_t width = a.width, kv_width = a.width / a.heads * a.kv_heads;
  const auto matrix = [&](const char* name, int64_t rows, Projection projection) -> ParameterInfo& {
    ParameterInfo& info = list.add(block_name(block, name), Role::hidden_matrix, {rows, width}, block);
    info.projection = projection;
    return info;
  };
  // Head counts say how rows fall into heads; the output's rows do not.
  matrix("self_attn.q_proj.weight", width, Projection::query).heads = static_cast<int>(a.heads);
  matrix("self_attn.k_proj.weight", kv_width, Projection::key).kv_heads = static_cast<int>(a.kv_heads);
  matrix("self_attn.v_proj.weight", kv_width, Projection::value).kv_heads = static_cast<int>(a.kv_heads);
  matrix("self_attn.o_proj.weight", width, Projection::output);
}

void add_block(ParameterList& list, const Architecture& a, int block) {
  const auto add = [&](const char* name, Role role, std::vector<int64_t> shape) {
    list.add(block_name(block, name), role, std::move(shape), block);
  };
  add_attention(list, a, block);
  add("mlp.gate_proj.weight", Role::hidden_matrix, {a.ffn, a.width});
  add("mlp.up_proj.weight", Role::hidden_matrix, {a.ffn, a.width});
  add("mlp.down_proj.weight", Role::hidden_matrix, {a.width, a.ffn});
  add("input_layernorm.weight", Role::gain, {a.width});
  add("post_attention_layernorm.weight", Role::gain, {a.width});
}

}  // namespace

std::vector<ParameterInfo> llama_parameters(const Architecture& a) {
  ParameterList list;
  list.add("model.embed_tokens.weight", Role::embedding, {a.vocab, a.width});
  for (int block = 0; block < a.layers; ++block) add_block(list, a, block);
  list.add("model.norm.weight", Role::gain, {a.width});
  if (!a.tied) list.add("lm_head.weight", Role::head, {a.vocab, a.width});
  return list.take();
}

std::unique_ptr<LanguageModel> make_llama(const Architecture& architecture, at::ScalarType dtype, const Rng& rng) {
  return std::make_unique<Llama>(architecture, dtype, rng);
}

Value llama_config(const Architecture& a) {
  Value config = Value::table();
  config["architectures"] = Value(Value::Array{Value("LlamaForCausalLM")});
  config["model_type"] = "llama";
  config["vocab_size"] = a.vocab;
  config["hidden_size"] = a.width;
  config["intermediate_size"] = a.ffn;
  config["num_hidden_layers"] = a.layers;
  config["num_attention_heads"] = a.heads;
  config["num_key_value_heads"] = a.kv_heads;
  config["head_dim"] = a.width / a.heads;
  config["max_position_embeddings"] = a.context;
  config["hidden_act"] = "silu";
  config["rms_norm_eps"] = a.norm_eps;
  config["rope_theta"] = a.rope_base;
  // Version 5 reads the rotary settings from here, version 4 from rope_theta.
  config["rope_parameters"]["rope_type"] = "default";
  config["rope_parameters"]["rope_theta"] = a.rope_base;
  config["attention_bias"] = false;
  config["attention_dropout"] = 0.0;
  config["mlp_bias"] = false;
  config["tie_word_embeddings"] = a.tied;
  config["initializer_range"] = a.init_std;
  // Which ids are special is the tokenizer's knowledge; the library's defaults may not exist here.
  config["bos_token_id"] = Value();
  config["eos_token_id"] = Value();
  return config;
}

}  // namespace schatten
