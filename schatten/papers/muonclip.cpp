#include <ATen/ATen.h>
#include <schatten/papers/muonclip.h>

#include <cmath>

namespace schatten {

namespace {

constexpr const char* kLogits = "largest_logits";

/// What was found of one transformer block.
struct Attention {
  AttentionWeights weights;
  AttentionLayout layout;
  bool ours = false;  // its query matrix has this recipe
};

void put(const Controlled& c, Tensor rows, Tensor& matrix, Tensor& bias) {
  (c.info.shape.size() < 2 ? bias : matrix) = std::move(rows);
}

void add_query(Attention& a, const Controlled& c, Tensor rows) {
  a.layout.heads = c.info.heads;
  a.layout.nope = c.info.nope_rows;
  a.layout.rope = c.info.rope_rows;
  if (c.info.shape.size() >= 2) a.ours = c.routed;
  put(c, std::move(rows), a.weights.query, a.weights.query_bias);
}

void add_key(Attention& a, const Controlled& c, Tensor rows) {
  a.layout.kv_heads = c.info.kv_heads > 0 ? c.info.kv_heads : c.info.heads;
  put(c, std::move(rows), a.weights.key, a.weights.key_bias);
}

std::map<int, Attention> attention_blocks(const std::vector<Controlled>& all) {
  std::map<int, Attention> blocks;
  for (const Controlled& c : all) {
    const ParameterInfo& p = c.info;
    if (p.block < 0) continue;
    if (p.projection == Projection::query && p.heads > 0) add_query(blocks[p.block], c, c.weight);
    if (p.projection == Projection::key && (p.heads > 0 || p.kv_heads > 0)) add_key(blocks[p.block], c, c.weight);
    if (p.projection == Projection::fused_qkv && p.heads > 0 && p.fused_parts.size() >= 2) {
      add_query(blocks[p.block], c, c.weight.narrow(0, 0, p.fused_parts[0]));
      add_key(blocks[p.block], c, c.weight.narrow(0, p.fused_parts[0], p.fused_parts[1]));
    }
  }
  return blocks;
}

struct QkClipModel {
  QkClipControl options;

  std::string name() const { return "qk_clip"; }
  std::string wants() const { return kLogits; }
  bool sees_all() const { return true; }
  Value to_value() const { return tagged_fields("controller", name(), options); }
  QkClipOptions clip_of(const AttentionLayout& layout) const {
    const QkClipMode grouped =
        options.grouped == GroupedKeys::query_only ? QkClipMode::gqa_query_only : QkClipMode::gqa_shared_key;
    const bool latent = layout.nope > 0 || layout.rope > 0;
    return {.mode = latent                            ? QkClipMode::mla
                    : layout.heads == layout.kv_heads ? QkClipMode::mha
                                                      : grouped,
            .tau = options.tau,
            .alpha = options.alpha};
  }
  void after_step(std::vector<Controlled>& all, const Observations& seen, int64_t) const {
    const std::map<int, Tensor>& logits = seen.at(kLogits);
    for (const auto& [block, attention] : attention_blocks(all)) {
      if (!attention.ours) continue;
      const std::string who = "qk_clip, block " + std::to_string(block);
      const auto largest = logits.find(block);
      if (largest == logits.end())
        fail({who, "the largest logits of every block before each step", "none of this one",
              "Call observe(\"largest_logits\", block, values) after forward."});
      if (!attention.weights.key.defined())
        fail_usage({who, "a query and a key projection", "a query alone",
                    "Describe the key's parameter: projection, block, kv_heads."});
      qk_clip(attention.weights, largest->second, attention.layout, clip_of(attention.layout));
    }
  }
};

}  // namespace

Controller qk_clip_control(const QkClipControl& o) {
  if (!(o.tau > 0 && std::isfinite(o.tau)))
    fail_usage({"qk_clip", "tau finite and > 0", to_json(Value(o.tau)), "Kimi K2 used 100."});
  if (!(o.alpha >= 0 && o.alpha <= 1))
    fail_usage({"qk_clip", "alpha in [0, 1]", to_json(Value(o.alpha)), "0.5 splits evenly."});
  return QkClipModel{o};
}

}  // namespace schatten
