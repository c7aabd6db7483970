#pragma once
#include <schatten/papers/muon.h>
#include <schatten/parameters/qk_clip.h>

namespace schatten {

/// Where several query heads share a key head.
enum class GroupedKeys {
  query_only,  // W_q *= gamma; the shared keys stay
  shared_key,  // W_k *= kappa, the smallest gamma^(1 - alpha) of its group; W_q *= gamma / kappa
};
constexpr auto enum_names(GroupedKeys) { return std::to_array<std::string_view>({"query_only", "shared_key"}); }

struct QkClipControl {
  double tau = 100;
  double alpha = 0.5;
  GroupedKeys grouped = GroupedKeys::query_only;
  void fields(auto&& visit) {
    visit("tau", tau, "largest attention logit allowed, > 0");
    visit("alpha", alpha, "the query's share of the clip, in [0, 1]");
    visit("grouped", grouped, "with fewer key heads: query_only, shared_key");
  }
};
/// After each step, for each head whose largest softmax input S of the forward before it exceeded tau:
///   W_q^h *= (tau / S)^alpha,   W_k^h *= (tau / S)^(1 - alpha);   biases with their rows
/// Goes by the observation "largest_logits" (per block, one number per query head) and by what parameters say of
/// themselves: projection, block, heads, kv_heads, fused_parts; latent attention (MLA) by nope_rows and rope_rows of its
/// query up-projection, whose rotated rows take all of tau / S. A parameter that says nothing is left alone. A block is
/// clipped by the controller of the recipe that its query matrix is routed to, wherever its keys and biases go.
/// Of no use with normalised queries and keys.
Controller qk_clip_control(const QkClipControl& options);

struct MuonClipOptions {
  MuonOptions muon = muon_variant(MuonVariant::k2);
  QkClipControl clip{};
  void fields(auto&& visit) {
    muon.fields(visit);
    visit("clip", clip, "the controller: tau, alpha, grouped");
  }
};

/// MuonClip: Muon that keeps attention logits below tau.
///   M <- mu M + G                                            [m, n]
///   U  = 0.2 sqrt(max(m, n)) NS5(M / |M|_F)
///   W <- (1 - lr lambda) W - lr U
///   then, for each head with S_h > tau:  W_q^h *= sqrt(tau / S_h),  W_k^h *= sqrt(tau / S_h)
/// Variants  any of muon's; the clip works on every recipe: `controllers = [{ controller = "qk_clip", tau = 100 }]`.
/// State     momentum_buffer [m, n]: the clip changes weights only.
/// Locality  matrix.
/// Source    Kimi K2, arXiv:2507.20534, Algorithm 1; momentum and iteration, which it does not state, as Moonlight's.
/// Differs   grouped queries, biases (the report has neither).
/// Checked   parameters/qk_clip_test, identity/muonclip_*, qk_clip_*, law/*.
inline Recipe muonclip(const MuonClipOptions& o) {
  Recipe recipe = muon(o.muon);
  recipe.name = "muonclip";
  recipe.controllers = {qk_clip_control(o.clip)};
  return recipe;
}

inline RecipeInfo muonclip_info() {
  return recipe_row<MuonClipOptions>(
      {.name = "muonclip",
       .group = Group::orthogonalizing,
       .summary = "Muon, and query and key heads shrunk where attention logits exceed tau",
       .formula = "M <- mu M + G;  U = 0.2 sqrt(max(m, n)) NS5(M);  W_q^h, W_k^h *= sqrt(tau / S_h) where S_h > tau",
       .paper = "Kimi K2, arXiv:2507.20534",
       .state = "mn",
       .tune = "lr (AdamW's), weight_decay; clip.tau (100; 30 in small models)"},
      muonclip, [](const Value& table) {
        MuonVariant variant = MuonVariant::k2;
        if (const Value* v = table.find("variant")) read_field(*v, "muonclip", "variant", variant);
        return MuonClipOptions{.muon = muon_variant(variant)};
      });
}

}  // namespace schatten
