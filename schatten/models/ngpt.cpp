#include <ATen/ATen.h>
#include <schatten/models/building_impl.h>
#include <schatten/models/ngpt.h>
#include <schatten/models/rotary_impl.h>

#include <cmath>
#include <string>
#include <utility>

namespace schatten {
namespace {

std::string block_name(int64_t block, const std::string& rest) {
  return "transformer.h." + std::to_string(block) + "." + rest;
}

bool gated(const Architecture& a) { return a.kind == "ngpt_gated"; }

/// A vector is stored as p, starts at `scale`, and acts as p * init / scale: with one rate for all, each moves by
/// init / scale times that rate.
struct Stored {
  double init, scale;

  Tensor effective(const Tensor& p) const { return init == scale ? p : p * (init / scale); }
};

/// What each kind of vector is stored as.
struct Vectors {
  Stored alpha, sqk, suv, sz;

  explicit Vectors(const Architecture& a) {
    const double scale = 1 / std::sqrt(static_cast<double>(a.width));
    alpha = {gated(a) ? 0.30 : 0.05, scale};
    sqk = sz = {1, scale};
    suv = {1, 1};
  }
  double start(std::string_view name) const {
    if (name.ends_with("_alpha")) return alpha.scale;
    if (name.ends_with("sqk")) return sqk.scale;
    if (name.ends_with("suv")) return suv.scale;
    return name.ends_with("sz") ? sz.scale : 0;  // gates
  }
};

/// N(x) along the last axis; zeros stay. Half precisions take their norms in float32.
Tensor unit(const Tensor& x) {
  if (at::isReducedFloatingType(x.scalar_type())) return unit(x.to(at::kFloat)).to(x.scalar_type());
  return x / at::linalg_vector_norm(x, 2, at::IntArrayRef({-1}), /*keepdim=*/true).clamp_min(1e-30);
}

struct Block {
  Tensor query, key, value, output, up_gate, down, attention_alpha, feed_alpha, attention_gate, feed_gate, sqk, suv;
};

class Ngpt final : public LanguageModel {
 public:
  Ngpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
  const Architecture& architecture() const override { return architecture_; }
  Tensor logits(const Tensor& tokens) const override;

 private:
  Block find_block(int64_t index) const;
  Tensor attention(const Tensor& h, int64_t index, const Rotary& rotary) const;
  Tensor feed_forward(const Tensor& h, const Block& block) const;
  Tensor rate(const Tensor& alpha, const Tensor& gate) const;

  Architecture architecture_;
  Vectors vectors_;
  Rotary rotary_;
  std::vector<Block> blocks_;
  Tensor embedding_, head_, sz_;
};

Ngpt::Ngpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng)
    : architecture_(architecture), vectors_(architecture), rotary_(architecture, dtype) {
  parameters_ = make_leaves(ngpt_parameters(architecture), dtype, rng, [](const ParameterInfo&) { return 1.0; });
  for (const auto& [info, tensor] : parameters_) {
    if (info.role == Role::gain) tensor.detach().fill_(vectors_.start(info.name));
  }
  for (int64_t i = 0; i < architecture.layers; ++i) blocks_.push_back(find_block(i));
  embedding_ = leaf(parameters_, "transformer.wte.weight");
  head_ = leaf(parameters_, "lm_head.weight");
  sz_ = leaf(parameters_, "sz");
}

Block Ngpt::find_block(int64_t index) const {
  const auto find = [&](const char* rest) { return leaf(parameters_, block_name(index, rest)); };
  const auto gate = [&](const char* rest) { return gated(architecture_) ? find(rest) : Tensor(); };
  return {.query = find("query.weight"),
          .key = find("key.weight"),
          .value = find("value.weight"),
          .output = find("att_c_proj.weight"),
          .up_gate = find("c_fc.weight"),
          .down = find("mlp_c_proj.weight"),
          .attention_alpha = find("attn_alpha"),
          .feed_alpha = find("mlp_alpha"),
          .attention_gate = gate("gate_attn"),
          .feed_gate = gate("gate_mlp"),
          .sqk = find("sqk"),
          .suv = find("suv")};
}

Tensor Ngpt::attention(const Tensor& h, int64_t index, const Rotary& rotary) const {
  const Block& block = blocks_[static_cast<size_t>(index)];
  const int64_t head_dim = architecture_.width / architecture_.heads;
  const Tensor sqk = vectors_.sqk.effective(block.sqk).view({architecture_.heads, head_dim});
  const auto by_head = [&](const Tensor& weight) {
    return at::linear(h, weight).view({h.size(0), h.size(1), architecture_.heads, head_dim});
  };
  // The rotation keeps norms, so N may come after it; s_qk may not come before.
  const Tensor q = (sqk * unit(rotary.turn(by_head(block.query)))).transpose(1, 2);
  const Tensor k = (sqk * unit(rotary.turn(by_head(block.key)))).transpose(1, 2);
  const Tensor v = by_head(block.value).transpose(1, 2);
  const double scale = std::sqrt(static_cast<double>(head_dim));  // unit vectors' products vary by 1 / head_dim
  see_logits(index, q, k, scale);
  const Tensor mixed =
      at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true, scale);
  return at::linear(mixed.transpose(1, 2).flatten(2), block.output);
}

Tensor Ngpt::feed_forward(const Tensor& h, const Block& block) const {
  // W h has entries of width^-1/2, where SiLU is a line; the factor on u falls away in the norm that follows.
  const double spread = std::sqrt(static_cast<double>(architecture_.width));
  const auto parts = (at::linear(h, block.up_gate) * (vectors_.suv.effective(block.suv) * spread)).chunk(2, -1);
  return at::linear(parts[0] * at::silu(parts[1]), block.down);
}

/// How far a branch pulls the residual stream, per channel; [width].
Tensor Ngpt::rate(const Tensor& alpha, const Tensor& gate) const {
  const Tensor pull = vectors_.alpha.effective(alpha).abs();
  return gate.defined() ? pull * gate.sigmoid() : pull;
}

Tensor move(const Tensor& h, const Tensor& branch, const Tensor& rate) { return unit(at::lerp(h, unit(branch), rate)); }

Tensor Ngpt::logits(const Tensor& tokens) const {
  check_tokens(tokens, architecture_, "tokens");
  const Rotary rotary = rotary_.first(tokens.size(1));
  Tensor h = at::embedding(embedding_, tokens);
  for (int64_t i = 0; i < architecture_.layers; ++i) {
    const Block& block = blocks_[static_cast<size_t>(i)];
    // The published code takes N(h) before every move. Where h is N of something that changes nothing; at the embedding
    // it takes the radial part out of a gradient.
    const Tensor from = i == 0 && !gated(architecture_) ? unit(h) : h;
    h = move(from, attention(h, i, rotary), rate(block.attention_alpha, block.attention_gate));
    h = move(h, feed_forward(h, block), rate(block.feed_alpha, block.feed_gate));
  }
  return at::linear(h, head_) * vectors_.sz.effective(sz_);
}

/// The axis of length `width` is the one of unit norm.
constexpr int unit_rows = 1, unit_columns = 0;

void add_matrices(ParameterList& list, const Architecture& a, int block) {
  const auto matrix = [&](const char* name, std::vector<int64_t> shape, int unit_axis,
                          Projection projection = Projection::none) -> ParameterInfo& {
    ParameterInfo& info = list.add(block_name(block, name), Role::hidden_matrix, std::move(shape), block);
    info.projection = projection;
    info.unit_axis = unit_axis;
    return info;
  };
  const int heads = static_cast<int>(a.heads);
  matrix("query.weight", {a.width, a.width}, unit_rows, Projection::query).heads = heads;
  matrix("key.weight", {a.width, a.width}, unit_rows, Projection::key).kv_heads = heads;
  matrix("value.weight", {a.width, a.width}, unit_rows, Projection::value).kv_heads = heads;
  matrix("att_c_proj.weight", {a.width, a.width}, unit_columns, Projection::output);
  matrix("c_fc.weight", {2 * a.ffn, a.width}, unit_rows).fused_parts = {a.ffn, a.ffn};
  matrix("mlp_c_proj.weight", {a.width, a.ffn}, unit_columns);
}

void add_vectors(ParameterList& list, const Architecture& a, int block) {
  const auto vector = [&](const char* name, int64_t length) {
    list.add(block_name(block, name), Role::gain, {length}, block);
  };
  vector("attn_alpha", a.width);
  vector("mlp_alpha", a.width);
  if (gated(a)) {
    vector("gate_attn", a.width);
    vector("gate_mlp", a.width);
  }
  vector("sqk", a.width);
  vector("suv", 2 * a.ffn);
}

}  // namespace

std::vector<ParameterInfo> ngpt_parameters(const Architecture& a) {
  ParameterList list;
  list.add("transformer.wte.weight", Role::embedding, {a.vocab, a.width}).unit_axis = unit_rows;
  for (int block = 0; block < a.layers; ++block) {
    add_matrices(list, a, block);
    add_vectors(list, a, block);
  }
  list.add("lm_head.weight", Role::head, {a.vocab, a.width}).unit_axis = unit_rows;
  list.add("sz", Role::gain, {a.vocab});
  return list.take();
}

std::unique_ptr<LanguageModel> make_ngpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng) {
  return std::make_unique<Ngpt>(architecture, dtype, rng);
}

Value ngpt_config(const Architecture& a) {
  const Vectors vectors(a);
  Value config = Value::table();
  config["model_type"] = a.kind;
  config["vocab_size"] = a.vocab;
  config["hidden_size"] = a.width;
  config["intermediate_size"] = a.ffn;
  config["num_hidden_layers"] = a.layers;
  config["num_attention_heads"] = a.heads;
  config["max_position_embeddings"] = a.context;
  config["hidden_act"] = "silu";
  config["rope_theta"] = a.rope_base;
  config["rotary"] = enum_name(a.rotary);
  config["tie_word_embeddings"] = false;
  const auto stored = [&](const std::string& name, const Stored& as) {
    config[name + "_init"] = as.init;
    config[name + "_scale"] = as.scale;
  };
  stored("alpha", vectors.alpha);
  stored("sqk", vectors.sqk);
  stored("suv", vectors.suv);
  stored("sz", vectors.sz);
  if (gated(a)) config["gate_init"] = 0.0;
  return config;
}

}  // namespace schatten
