#include <ATen/ATen.h>
#include <schatten/models/building_impl.h>
#include <schatten/models/ngpt.h>

#include <cmath>
#include <string>
#include <utility>

namespace schatten {
namespace {

constexpr double alpha_init = 0.15, logit_scale = 15, norm_eps = 1e-8;

std::string block_name(int64_t block, const std::string& rest) {
  return "blocks." + std::to_string(block) + "." + rest;
}

/// x / sqrt(|x|^2 + eps) along the last axis. Half precisions take their norms in float32.
Tensor unit(const Tensor& x) {
  if (at::isReducedFloatingType(x.scalar_type())) return unit(x.to(at::kFloat)).to(x.scalar_type());
  return x * (x.square().sum(-1, /*keepdim=*/true) + norm_eps).rsqrt();
}

struct Block {
  Tensor attention_in, attention_out, feed_in, feed_out, attention_alpha, feed_alpha, attention_gate, feed_gate;
};

class NgptPlan final : public LanguageModel {
 public:
  NgptPlan(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
  const Architecture& architecture() const override { return architecture_; }
  Tensor logits(const Tensor& tokens) const override;

 private:
  Block find_block(int64_t index) const;
  Tensor attention(const Tensor& x, int64_t index) const;

  Architecture architecture_;
  std::vector<Block> blocks_;
  Tensor embedding_, positions_, head_;
};

NgptPlan::NgptPlan(const Architecture& architecture, at::ScalarType dtype, const Rng& rng)
    : architecture_(architecture) {
  parameters_ = make_leaves(ngpt_plan_parameters(architecture), dtype, rng, [](const ParameterInfo&) { return 1.0; });
  for (const auto& [info, tensor] : parameters_) {
    if (info.role == Role::gain) tensor.detach().fill_(info.shape.empty() ? alpha_init : 0.0);  // alphas and gates
  }
  for (int64_t i = 0; i < architecture.layers; ++i) blocks_.push_back(find_block(i));
  embedding_ = leaf(parameters_, "token_embedding.weight");
  positions_ = leaf(parameters_, "position_embedding.weight");
  head_ = leaf(parameters_, "lm_head.weight");
}

Block NgptPlan::find_block(int64_t index) const {
  const auto find = [&](const char* rest) { return leaf(parameters_, block_name(index, rest)); };
  return {.attention_in = find("attn.qkv.weight"),
          .attention_out = find("attn.out_proj.weight"),
          .feed_in = find("mlp.fc1.weight"),
          .feed_out = find("mlp.fc2.weight"),
          .attention_alpha = find("alpha_attn"),
          .feed_alpha = find("alpha_mlp"),
          .attention_gate = find("gate_attn"),
          .feed_gate = find("gate_mlp")};
}

Tensor NgptPlan::attention(const Tensor& x, int64_t index) const {
  const Block& block = blocks_[static_cast<size_t>(index)];
  const int64_t heads = architecture_.heads, head_dim = architecture_.width / heads;
  const auto parts = at::linear(x, block.attention_in).chunk(3, -1);
  const auto by_head = [&](const Tensor& part) {
    return part.view({x.size(0), x.size(1), heads, head_dim}).transpose(1, 2);
  };
  const Tensor q = by_head(parts[0]), k = by_head(parts[1]), v = by_head(parts[2]);
  see_logits(index, q, k, 1 / std::sqrt(static_cast<double>(head_dim)));
  const Tensor mixed =
      at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true);
  return at::linear(mixed.transpose(1, 2).flatten(2), block.attention_out);
}

Tensor feed_forward(const Tensor& x, const Block& block) {
  return at::linear(at::gelu(at::linear(x, block.feed_in)), block.feed_out);
}

Tensor move(const Tensor& x, const Tensor& branch, const Tensor& alpha, const Tensor& gate) {
  return unit(x + alpha * gate.sigmoid() * branch);
}

Tensor NgptPlan::logits(const Tensor& tokens) const {
  check_tokens(tokens, architecture_, "tokens");
  Tensor x = unit(unit(at::embedding(embedding_, tokens)) + unit(positions_.narrow(0, 0, tokens.size(1))));
  for (int64_t i = 0; i < architecture_.layers; ++i) {
    const Block& block = blocks_[static_cast<size_t>(i)];
    x = move(x, attention(x, i), block.attention_alpha, block.attention_gate);
    x = move(x, feed_forward(x, block), block.feed_alpha, block.feed_gate);
  }
  return at::linear(unit(x), unit(head_)) * logit_scale;
}

constexpr int unit_rows = 1;

ParameterInfo& add_matrix(ParameterList& list, std::string name, Role role, std::vector<int64_t> shape,
                          int block = -1) {
  ParameterInfo& info = list.add(std::move(name), role, std::move(shape), block);
  info.unit_axis = unit_rows;
  return info;
}

void add_attention(ParameterList& list, const Architecture& a, int block) {
  ParameterInfo& in =
      add_matrix(list, block_name(block, "attn.qkv.weight"), Role::hidden_matrix, {3 * a.width, a.width}, block);
  in.projection = Projection::fused_qkv;
  in.heads = in.kv_heads = static_cast<int>(a.heads);
  in.fused_parts = {a.width, a.width, a.width};
  add_matrix(list, block_name(block, "attn.out_proj.weight"), Role::hidden_matrix, {a.width, a.width}, block)
      .projection = Projection::output;
}

void add_block(ParameterList& list, const Architecture& a, int block) {
  add_attention(list, a, block);
  add_matrix(list, block_name(block, "mlp.fc1.weight"), Role::hidden_matrix, {a.ffn, a.width}, block);
  add_matrix(list, block_name(block, "mlp.fc2.weight"), Role::hidden_matrix, {a.width, a.ffn}, block);
  for (const char* name : {"alpha_attn", "alpha_mlp"}) list.add(block_name(block, name), Role::gain, {}, block);
  for (const char* name : {"gate_attn", "gate_mlp"}) list.add(block_name(block, name), Role::gain, {a.width}, block);
}

}  // namespace

std::vector<ParameterInfo> ngpt_plan_parameters(const Architecture& a) {
  ParameterList list;
  add_matrix(list, "token_embedding.weight", Role::embedding, {a.vocab, a.width});
  add_matrix(list, "position_embedding.weight", Role::embedding, {a.context, a.width});
  for (int block = 0; block < a.layers; ++block) add_block(list, a, block);
  add_matrix(list, "lm_head.weight", Role::head, {a.vocab, a.width});
  return list.take();
}

std::unique_ptr<LanguageModel> make_ngpt_plan(const Architecture& architecture, at::ScalarType dtype, const Rng& rng) {
  return std::make_unique<NgptPlan>(architecture, dtype, rng);
}

Value ngpt_plan_config(const Architecture& a) {
  Value config = Value::table();
  config["model_type"] = a.kind;
  config["vocab_size"] = a.vocab;
  config["hidden_size"] = a.width;
  config["intermediate_size"] = a.ffn;
  config["num_hidden_layers"] = a.layers;
  config["num_attention_heads"] = a.heads;
  config["max_position_embeddings"] = a.context;
  config["hidden_act"] = "gelu";
  config["tie_word_embeddings"] = false;
  config["alpha_init"] = alpha_init;
  config["gate_init"] = 0.0;
  config["logit_scale"] = logit_scale;
  config["norm_eps"] = norm_eps;
  return config;
}

}  // namespace schatten
