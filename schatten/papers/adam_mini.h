#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adam_mini.h>

#include <algorithm>
#include <cctype>

namespace schatten {

struct AdamMiniOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the root");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Adam-mini: AdamW with one second moment per block.
///   m <- b1 m + (1 - b1) G,   v_B <- b2 v_B + (1 - b2) mean_B(G^2),   U = m^ / (sqrt(v_B^) + eps)      [m, n]
///   W <- (1 - lr lambda) W - lr U
/// Blocks    a head of query and key; a row of every other matrix; gains and filters whole; biases entry by entry.
/// State     exp_avg [m, n], exp_avg_sq [blocks, 1].
/// Locality  matrix.
/// Source    Zhang et al. 2024, arXiv:2406.16793; code zyushun/Adam-mini@402aadf.
/// Differs   blocks come from what the model says of its parameters (released: from parts of their names): a matrix of
///           no known kind has a block per row (released: one block), and grouped keys go by kv_heads; decay is the
///           same for all parameters (released: none where the name contains norm, ln or bias: route those apart).
/// Checked   parity/adam_mini_*, identity/adam_mini_*, law/*.
inline Recipe adam_mini(const AdamMiniOptions& o) {
  return {.name = "adam_mini",
          .direction = scale_by_adam_mini({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// Whether the name contains one of the parts, in whatever case.
inline bool name_has(const ParameterInfo& p, std::initializer_list<std::string_view> parts) {
  std::string name = p.name;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

/// The released rule: blocks by names, heads of `head_entries` entries. What no name says is one block.
inline void describe_as_adam_mini(ParameterInfo& p, int64_t head_entries) {
  const auto is = [&](std::initializer_list<std::string_view> parts) { return name_has(p, parts); };
  p.projection = Projection::none;
  if (is({"bias"})) {
    p.role = Role::bias;
  } else if (is({"k_proj", "q_proj", "wq", "wk", "query", "key"})) {
    p.role = Role::hidden_matrix;
    p.projection = Projection::query;
    p.heads = static_cast<int>(p.numel() / head_entries);
  } else if (is({"embed", "embd", "wte", "lm_head", "output", "final_layer", "v_proj", "wv", "value", "feed_forward",
                 "linear", "mlp", "o_proj", "wo", "attn.proj"})) {
    p.role = Role::hidden_matrix;
  } else {
    p.role = p.shape.size() > 1 ? Role::conv : Role::gain;
  }
}

inline Replay replay_adam_mini(const Value& h, ComputeDtype) {
  const AdamMiniOptions o{.beta1 = beta(h, 0),
                          .beta2 = beta(h, 1),
                          .eps = h.real_or("eps", 1e-8),
                          .weight_decay = h.real_or("weight_decay", 0)};
  const int64_t head_entries = integer(h, "dim") * integer(h, "dim") / integer(h, "n_heads");
  return {.routes = {{"any", adam_mini(o), 1.0}},
          .slots = {{"vmean", "exp_avg_sq"}},
          .describe = [head_entries](ParameterInfo& p) { describe_as_adam_mini(p, head_entries); },
          .weight_decay = [](const ParameterInfo& p, int64_t, bool) -> std::optional<double> {
            if (name_has(p, {"norm", "ln", "bias"})) return 0;
            return std::nullopt;
          }};
}

inline RecipeInfo adam_mini_info() {
  return recipe_row<AdamMiniOptions>(
      {.name = "adam_mini",
       .group = Group::elementwise,
       .summary = "AdamW with one second moment per head or row",
       .formula = "v_B <- b2 v_B + (1 - b2) mean_B(G^2);  W <- (1 - lr lambda) W - lr m^ / (sqrt(v_B^) + eps)",
       .paper = "Zhang et al. 2024, arXiv:2406.16793 (zyushun/Adam-mini)",
       .state = "mn + m (query, key: mn + heads)",
       .tune = "lr (AdamW's), weight_decay",
       .published = {{"Adam-mini", replay_adam_mini}}},
      adam_mini);
}

}  // namespace schatten
