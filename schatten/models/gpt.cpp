#include <ATen/ATen.h>
#include <schatten/models/building_impl.h>
#include <schatten/models/gpt.h>

#include <cmath>
#include <string>
#include <utility>

namespace schatten {
namespace {

std::string block_name(int64_t block, const std::string& rest) {
  return "transformer.h." + std::to_string(block) + "." + rest;
}

struct Affine {
  Tensor weight, bias;

  Tensor operator()(const Tensor& x) const { return at::linear(x, weight, bias); }
};

struct Block {
  Affine norm_1, attention_in, attention_out, norm_2, feed_in, feed_out;
};

class Gpt final : public LanguageModel {
 public:
  Gpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
  const Architecture& architecture() const override { return architecture_; }
  Tensor logits(const Tensor& tokens) const override;

 private:
  /// GPT-2's Conv1D computes x W + b.
  bool stored_transposed(const ParameterInfo& info) const override { return info.role == Role::hidden_matrix; }
  Affine find(const std::string& name) const;
  Block find_block(int64_t index) const;
  Tensor normalize(const Tensor& x, const Affine& norm) const;
  Tensor attention(const Tensor& x, int64_t index) const;

  Architecture architecture_;
  std::vector<Block> blocks_;
  Tensor embedding_, positions_, head_;
  Affine final_norm_;
};

/// GPT-2 draws what writes to the residual stream smaller, so that its variance does not grow with
/// depth.
double initial_deviation(const ParameterInfo& info, const Architecture& a) {
  const bool residual = info.name.ends_with("c_proj.weight");
  return residual ? a.init_std / std::sqrt(2.0 * static_cast<double>(a.layers)) : a.init_std;
}

Gpt::Gpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng) : architecture_(architecture) {
  parameters_ = make_leaves(gpt_parameters(architecture), dtype, rng,
                            [&](const ParameterInfo& i) { return initial_deviation(i, architecture); });
  for (int64_t i = 0; i < architecture.layers; ++i) blocks_.push_back(find_block(i));
  embedding_ = leaf(parameters_, "transformer.wte.weight");
  positions_ = leaf(parameters_, "transformer.wpe.weight");
  final_norm_ = find("transformer.ln_f");
  head_ = architecture.tied ? embedding_ : leaf(parameters_, "lm_head.weight");
}

Affine Gpt::find(const std::string& name) const {
  return {leaf(parameters_, name + ".weight"), leaf(parameters_, name + ".bias")};
}

Block Gpt::find_block(int64_t index) const {
  const auto part = [&](const char* rest) { return find(block_name(index, rest)); };
  return {.norm_1 = part("ln_1"),
          .attention_in = part("attn.c_attn"),
          .attention_out = part("attn.c_proj"),
          .norm_2 = part("ln_2"),
          .feed_in = part("mlp.c_fc"),
          .feed_out = part("mlp.c_proj")};
}

Tensor Gpt::normalize(const Tensor& x, const Affine& norm) const {
  return at::layer_norm(x, {architecture_.width}, norm.weight, norm.bias, architecture_.norm_eps);
}

Tensor Gpt::attention(const Tensor& x, int64_t index) const {
  const Block& block = blocks_[static_cast<size_t>(index)];
  const int64_t batch = x.size(0), length = x.size(1), width = architecture_.width;
  const int64_t heads = architecture_.heads;
  const auto parts = block.attention_in(x).split(width, -1);
  const auto by_head = [&](const Tensor& part) {
    return part.view({batch, length, heads, width / heads}).transpose(1, 2);
  };
  const Tensor q = by_head(parts[0]), k = by_head(parts[1]), v = by_head(parts[2]);
  see_logits(index, q, k, 1 / std::sqrt(static_cast<double>(q.size(-1))));
  const Tensor mixed =
      at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true);
  return block.attention_out(mixed.transpose(1, 2).reshape({batch, length, width}));
}

Tensor Gpt::logits(const Tensor& tokens) const {
  check_tokens(tokens, architecture_, "tokens");
  Tensor x = at::embedding(embedding_, tokens) + positions_.narrow(0, 0, tokens.size(1));
  for (int64_t i = 0; i < architecture_.layers; ++i) {
    const Block& block = blocks_[static_cast<size_t>(i)];
    x = x + attention(normalize(x, block.norm_1), i);
    x = x + block.feed_out(at::gelu(block.feed_in(normalize(x, block.norm_2)), "tanh"));
  }
  return at::linear(normalize(x, final_norm_), head_);
}

void add_norm(ParameterList& list, const std::string& name, int64_t width, int block = -1) {
  list.add(name + ".weight", Role::gain, {width}, block);
  list.add(name + ".bias", Role::bias, {width}, block);
}

/// Projection, heads and fused rows are the same for a projection and its bias.
void add_affine(ParameterList& list, const ParameterInfo& like, int64_t rows, int64_t cols) {
  const auto add = [&](const char* suffix, Role role, std::vector<int64_t> shape) {
    ParameterInfo& info = list.add(like.name + suffix, role, std::move(shape), like.block);
    info.heads = like.heads;
    info.kv_heads = like.kv_heads;
    info.fused_parts = like.fused_parts;
    info.projection = like.projection;
  };
  add(".weight", Role::hidden_matrix, {rows, cols});
  add(".bias", Role::bias, {rows});
}

void add_block(ParameterList& list, const Architecture& a, int block) {
  const int heads = static_cast<int>(a.heads);
  const auto affine = [&](const char* name, int64_t rows, int64_t cols, Projection projection = Projection::none) {
    add_affine(list, {.name = block_name(block, name), .block = block, .projection = projection}, rows, cols);
  };
  add_norm(list, block_name(block, "ln_1"), a.width, block);
  add_affine(list,
             {.name = block_name(block, "attn.c_attn"),
              .block = block,
              .projection = Projection::fused_qkv,
              .heads = heads,
              .kv_heads = heads,
              .fused_parts = {a.width, a.width, a.width}},
             3 * a.width, a.width);
  affine("attn.c_proj", a.width, a.width, Projection::output);
  add_norm(list, block_name(block, "ln_2"), a.width, block);
  affine("mlp.c_fc", a.ffn, a.width);
  affine("mlp.c_proj", a.width, a.ffn);
}

}  // namespace

std::vector<ParameterInfo> gpt_parameters(const Architecture& a) {
  ParameterList list;
  list.add("transformer.wte.weight", Role::embedding, {a.vocab, a.width});
  list.add("transformer.wpe.weight", Role::embedding, {a.context, a.width});
  for (int block = 0; block < a.layers; ++block) add_block(list, a, block);
  add_norm(list, "transformer.ln_f", a.width);
  if (!a.tied) list.add("lm_head.weight", Role::head, {a.vocab, a.width});
  return list.take();
}

std::unique_ptr<LanguageModel> make_gpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng) {
  return std::make_unique<Gpt>(architecture, dtype, rng);
}

Value gpt_config(const Architecture& a) {
  Value config = Value::table();
  config["architectures"] = Value(Value::Array{Value("GPT2LMHeadModel")});
  config["model_type"] = "gpt2";
  config["vocab_size"] = a.vocab;
  config["n_positions"] = a.context;
  config["n_embd"] = a.width;
  config["n_layer"] = a.layers;
  config["n_head"] = a.heads;
  config["n_inner"] = a.ffn;
  config["activation_function"] = "gelu_new";
  config["layer_norm_epsilon"] = a.norm_eps;
  config["initializer_range"] = a.init_std;
  config["embd_pdrop"] = 0.0;
  config["attn_pdrop"] = 0.0;
  config["resid_pdrop"] = 0.0;
  config["tie_word_embeddings"] = a.tied;
  // Which ids are special is the tokenizer's knowledge; the library's defaults may not exist here.
  config["bos_token_id"] = Value();
  config["eos_token_id"] = Value();
  return config;
}

}  // namespace schatten
