// QK-clip: query and key weights shrink where a head's attention logits grew beyond tau.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/tensor.h>

#include <array>
#include <cstdint>
#include <vector>

namespace schatten {

/// gamma_h = min(1, tau / S_h), S_h the head's largest softmax input; alpha splits gamma between query and key.
enum class QkClipMode {
  mha,             // W_q *= gamma^alpha, W_k *= gamma^(1 - alpha), head by head
  gqa_query_only,  // W_q *= gamma; shared keys stay
  gqa_shared_key,  // W_k *= kappa = min over its group of gamma^(1 - alpha), W_q *= gamma / kappa (above 1 for some)
  mla,             // q nope rows *= gamma^alpha, k nope rows *= gamma^(1 - alpha), q rope rows *= gamma; k rope, v stay
};
constexpr auto enum_names(QkClipMode) {
  return std::to_array<std::string_view>({"mha", "gqa_query_only", "gqa_shared_key", "mla"});
}

struct QkClipOptions {
  QkClipMode mode = QkClipMode::mha;
  double tau = 100;
  double alpha = 0.5;
  void fields(auto&& visit) {
    visit("mode", mode, "mha, gqa_query_only, gqa_shared_key, mla");
    visit("tau", tau, "largest logit allowed, > 0");
    visit("alpha", alpha, "the query's share of the clip, in [0, 1]");
  }
};

/// Rows, head by head. MLA: query = q_b with [nope; rope] per head, key = kv_b with [nope; value] per head.
struct AttentionLayout {
  int64_t heads = 0, kv_heads = 0;  // kv_heads 0: as many as heads
  int64_t nope = 0, rope = 0;       // mla only
};

/// Biases may be absent. Changed in place; gradients are taken to be off.
struct AttentionWeights {
  Tensor query, key;
  Tensor query_bias{}, key_bias{};
};

/// What was multiplied with; all 1 where nothing was clipped.
struct QkClipFactors {
  std::vector<double> gamma, query;  // [heads]; mla: query is that of the nope rows, gamma that of the rope rows
  std::vector<double> key;           // [kv_heads]
};

/// The factors alone. `largest_logits` [heads]: signed maximum over unmasked pairs, of the forward before the update.
QkClipFactors qk_clip_factors(const Tensor& largest_logits, const AttentionLayout& layout,
                              const QkClipOptions& options);

/// Scales the rows: the logits of head h become gamma_h times what they were. Heads with S_h <= tau (negative
/// S_h included) keep their bits, except queries of gqa_shared_key whose key another head of the group shrank.
/// Source   Kimi K2, arXiv:2507.20534, section 2.1; biases, alpha in mla and both gqa modes are this project's.
/// Checked  parameters/qk_clip_test (an independent reference, and the logits after the clip).
QkClipFactors qk_clip(const AttentionWeights& weights, const Tensor& largest_logits, const AttentionLayout& layout,
                      const QkClipOptions& options);

}  // namespace schatten
