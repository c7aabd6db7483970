// QK-clip against an independent reference, and by what it promises: the logits after the clip.
#include <schatten/core/rng.h>
#include <schatten/parameters/qk_clip.h>

#include "parameters/support.h"

namespace schatten::testing {
namespace {

Tensor gaussian(std::vector<int64_t> shape, const char* what, at::ScalarType dtype = at::kDouble) {
  return Rng(31).of("qk_clip").of(what).normal(shape, dtype);
}

/// [T, width] W^T + b, split into heads: [heads, T, head_dim].
Tensor project(const Tensor& x, const Tensor& w, const Tensor& b, int64_t heads) {
  const Tensor y = at::linear(x, w, b);
  return y.unflatten(-1, {heads, -1}).transpose(-2, -3);
}

/// Softmax inputs [.., heads, T, T] of grouped attention; the upper triangle at -infinity where causal.
Tensor logits_of(const Tensor& x, const AttentionWeights& w, const AttentionLayout& layout, bool causal) {
  const Tensor q = project(x, w.query, w.query_bias, layout.heads);
  const Tensor k = project(x, w.key, w.key_bias, layout.kv_heads).repeat_interleave(layout.heads / layout.kv_heads, -3);
  Tensor logits = at::matmul(q, k.mT()) / std::sqrt(static_cast<double>(q.size(-1)));
  if (causal) logits = logits.masked_fill(at::ones_like(logits).triu(1).to(at::kBool), -INFINITY);
  return logits;
}

Tensor largest(const Tensor& logits) { return logits.dim() == 4 ? logits.amax({0, 2, 3}) : logits.amax({1, 2}); }

QkClipMode mode_of(const std::string& name) {
  for (const QkClipMode mode : {QkClipMode::gqa_query_only, QkClipMode::gqa_shared_key, QkClipMode::mla})
    if (name == enum_name(mode)) return mode;
  return QkClipMode::mha;
}

class GoldenQkClip : public GoldenCase {
 protected:
  Tensor optional(const std::string& name) const { return file_.find(name) ? at(name) : Tensor(); }
  void compare(const AttentionWeights& w, const QkClipFactors& f);
};

Tensor vector(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

void GoldenQkClip::compare(const AttentionWeights& w, const QkClipFactors& f) {
  expect_near(vector(f.gamma), file_.at("gamma"), "gamma");
  expect_near(vector(f.query), file_.at("scale_q"), "scale_q");
  expect_near(vector(f.key), file_.at("scale_k"), "scale_k");
  expect_near(w.query, file_.at("w_q.clipped"), "w_q");
  expect_near(w.key, file_.at("w_k.clipped"), "w_k");
  if (w.query_bias.defined()) expect_near(w.query_bias, file_.at("b_q.clipped"), "b_q");
  if (w.key_bias.defined()) expect_near(w.key_bias, file_.at("b_k.clipped"), "b_k");
}

TEST_P(GoldenQkClip, MatchesTheReferenceAndItsLogitsStopAtTau) {
  const Value hyper = hyper_of(file_);
  const AttentionLayout layout{.heads = hyper.at("n_heads").as_integer(),
                               .kv_heads = hyper.at("n_kv_heads").as_integer()};
  const QkClipOptions options{.mode = mode_of(hyper.at("mode").as_string()),
                              .tau = hyper.at("tau").as_real(),
                              .alpha = hyper.at("alpha").as_real()};
  const AttentionWeights w{at("w_q"), at("w_k"), optional("b_q"), optional("b_k")};
  const bool causal = hyper.at("causal").as_bool();
  const Tensor before = largest(logits_of(at("X"), w, layout, causal));
  expect_near(before, file_.at("max_logit"), "max_logit");
  compare(w, qk_clip(w, at("max_logit"), layout, options));
  const Tensor after = largest(logits_of(at("X"), w, layout, causal));
  for (int64_t h = 0; h < layout.heads; ++h) {
    const double was = before[h].item<double>(), is = after[h].item<double>();
    EXPECT_NEAR(is, std::min(was, options.tau), (dtype_ == at::kDouble ? 1e-6 : 1e-4) * std::abs(was)) << h;
    expect_near(is, file_.at("max_logit.clipped")[h].item<double>(), "max_logit.clipped");
  }
}
INSTANTIATE_TEST_SUITE_P(Optimizers, GoldenQkClip, ::testing::ValuesIn(cases_of("QK-Clip")), name_of);

struct Heads {
  AttentionWeights weights;
  AttentionLayout layout;
  Tensor rows(const Tensor& w, int64_t head, int64_t of) const { return w.unflatten(0, {of, -1})[head]; }
};
Heads some_heads(int64_t heads, int64_t kv_heads, at::ScalarType dtype = at::kDouble) {
  return {{gaussian({heads * 4, 12}, "q", dtype), gaussian({kv_heads * 4, 12}, "k", dtype)}, {heads, kv_heads}};
}

/// Below, at, and far below tau: nothing moves, not even a version counter.
TEST(QkClip, HeadsUpToTauKeepTheirBits) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const Heads h = some_heads(4, 4, dtype);
    const Tensor q = h.weights.query.clone(), k = h.weights.key.clone();
    const auto version = h.weights.query._version();
    qk_clip(h.weights, vector({-50, 0, 10, -INFINITY}), h.layout, {.tau = 10});
    EXPECT_EQ(h.weights.query._version(), version);
    qk_clip(h.weights, vector({-50, 40, 10, 9}), h.layout, {.tau = 10});
    for (const int64_t head : {0, 2, 3}) {
      EXPECT_TRUE(at::equal(h.rows(h.weights.query, head, 4), h.rows(q, head, 4))) << head << c10::toString(dtype);
      EXPECT_TRUE(at::equal(h.rows(h.weights.key, head, 4), h.rows(k, head, 4))) << head;
    }
    EXPECT_TRUE(at::equal(h.rows(h.weights.query, 1, 4), h.rows(q, 1, 4) * 0.5)) << c10::toString(dtype);
    EXPECT_TRUE(at::equal(h.rows(h.weights.key, 1, 4), h.rows(k, 1, 4) * 0.5));
  }
}

TEST(QkClip, AlphaMovesTheClipFromKeysToQueries) {
  for (const double alpha : {0.0, 1.0}) {
    const Heads h = some_heads(1, 1);
    const Tensor q = h.weights.query.clone(), k = h.weights.key.clone();
    const QkClipFactors f = qk_clip(h.weights, vector({40}), h.layout, {.tau = 10, .alpha = alpha});
    EXPECT_EQ(f.gamma[0], 0.25);
    EXPECT_TRUE(at::equal(h.weights.query, alpha == 1 ? q * 0.25 : q));
    EXPECT_TRUE(at::equal(h.weights.key, alpha == 1 ? k : k * 0.25));
  }
}

/// bfloat16 weights take the factor unrounded: the product is rounded once.
TEST(QkClip, HalfTypesRoundOnce) {
  const Heads h = some_heads(1, 1, at::kBFloat16);
  const Tensor q = h.weights.query.clone();
  qk_clip(h.weights, vector({14.2}), h.layout, {.tau = 10});
  const float factor = static_cast<float>(std::sqrt(10 / 14.2));
  EXPECT_TRUE(at::equal(h.weights.query, (q.to(at::kFloat) * factor).to(at::kBFloat16)));
}

/// A group without a clipped head keeps its bits; in the other one an unclipped query makes up for the smaller key.
TEST(QkClip, SharedKeysShrinkAsTheirMostClippedHeadNeeds) {
  const Heads h = some_heads(4, 2);
  const Tensor q = h.weights.query.clone(), k = h.weights.key.clone();
  const QkClipFactors f =
      qk_clip(h.weights, vector({5, 9, 5, 40}), h.layout, {.mode = QkClipMode::gqa_shared_key, .tau = 10});
  EXPECT_EQ(f.key, (std::vector<double>{1, 0.5}));
  EXPECT_EQ(f.query, (std::vector<double>{1, 1, 2, 0.5}));
  EXPECT_TRUE(at::equal(h.rows(h.weights.key, 0, 2), h.rows(k, 0, 2)));
  EXPECT_TRUE(at::equal(h.rows(h.weights.query, 1, 4), h.rows(q, 1, 4)));
  EXPECT_TRUE(at::equal(h.rows(h.weights.query, 2, 4), h.rows(q, 2, 4) * 2));
}

/// Latent attention: q_b [nope; rope] and kv_b [nope; value] per head, one rope key for all heads.
struct Latent {
  int64_t heads = 3, nope = 6, rope = 4, value = 5, tokens = 9;
  Tensor query_latent = gaussian({tokens, 8}, "cq"), key_latent = gaussian({tokens, 7}, "ckv");
  Tensor rope_key = gaussian({tokens, rope}, "kr");
  AttentionWeights weights{gaussian({heads * (nope + rope), 8}, "qb"), gaussian({heads * (nope + value), 7}, "kvb"),
                           gaussian({heads * (nope + rope)}, "bq"), gaussian({heads * (nope + value)}, "bkv")};
  AttentionLayout layout{.heads = heads, .nope = nope, .rope = rope};

  Tensor logits() const {
    const Tensor q = project(query_latent, weights.query, weights.query_bias, heads);
    const Tensor kv = project(key_latent, weights.key, weights.key_bias, heads);
    const Tensor content = at::matmul(q.narrow(2, 0, nope), kv.narrow(2, 0, nope).mT());
    const Tensor position = at::matmul(q.narrow(2, nope, rope), rope_key.mT());
    return (content + position) / std::sqrt(static_cast<double>(nope + rope));
  }
  Tensor values() const { return project(key_latent, weights.key, weights.key_bias, heads).narrow(2, nope, value); }
};

TEST(QkClip, LatentAttentionScalesEveryLogitOfAHeadByItsGamma) {
  for (const double alpha : {0.5, 0.3}) {
    const Latent m;
    const Tensor before = m.logits(), values = m.values(), top = largest(before);
    const double tau = top.median().item<double>();  // clips the head above the middle one only
    const QkClipFactors f = qk_clip(m.weights, top, m.layout, {.mode = QkClipMode::mla, .tau = tau, .alpha = alpha});
    const Tensor after = m.logits(), now = largest(after);
    for (int64_t h = 0; h < m.heads; ++h) {
      const bool clipped = top[h].item<double>() > tau;
      EXPECT_EQ(f.gamma[static_cast<size_t>(h)] < 1, clipped);
      EXPECT_LE(distance(after[h], before[h] * f.gamma[static_cast<size_t>(h)]), 1e-13) << h;
      if (clipped) {
        EXPECT_NEAR(now[h].item<double>() / tau, 1, 1e-12);
      } else {
        EXPECT_TRUE(at::equal(after[h], before[h]));
      }
    }
    EXPECT_TRUE(at::equal(m.values(), values));
  }
}

TEST(QkClip, RefusesWhatCannotBe) {
  const auto error = [](int64_t heads, int64_t kv, const Tensor& logits, const QkClipOptions& o) {
    return error_of([&] {
      const Heads h = some_heads(4, 2);
      qk_clip(h.weights, logits, {.heads = heads, .kv_heads = kv, .nope = 3, .rope = 2}, o);
    });
  };
  const Tensor four = vector({1, 2, 3, 4});
  const QkClipOptions gqa{.mode = QkClipMode::gqa_query_only};
  const auto says = [](const std::string& text, const char* what) { return text.find(what) != std::string::npos; };
  EXPECT_EQ(error(4, 2, four, gqa), "");
  EXPECT_TRUE(says(error(4, 3, four, gqa), "heads > 0 that kv_heads divides, got 4 heads on 3"));
  EXPECT_TRUE(says(error(4, 2, four, {}), "as many kv_heads as heads for mode mha"));
  EXPECT_TRUE(says(error(4, 2, vector({1, 2, 3}), gqa), "one largest logit per head, [4], got [3]"));
  EXPECT_TRUE(says(error(4, 2, four, {.mode = gqa.mode, .tau = 0}), "tau finite and > 0, got 0"));
  EXPECT_TRUE(says(error(4, 2, four, {.mode = gqa.mode, .tau = -3}), "tau finite and > 0, got -3"));
  EXPECT_TRUE(says(error(4, 2, four, {.mode = gqa.mode, .alpha = 1.5}), "alpha in [0, 1], got 1.5"));
  EXPECT_TRUE(says(error(4, 2, vector({1, NAN, 3, 4}), gqa), "got nan for head 1"));
  EXPECT_TRUE(says(error(4, 2, vector({1, 2, INFINITY, 4}), gqa), "got inf for head 2"));
  EXPECT_TRUE(says(error(3, 1, vector({1, 2, 3}), gqa), "query [heads * head_dim, width] for 3 heads, got [16, 12]"));
  EXPECT_TRUE(says(error(4, 1, four, gqa), "one head_dim for query and key, got 4 and 8"));
  EXPECT_TRUE(says(error(2, 2, vector({1, 2}), {.mode = QkClipMode::mla}), "q_b with 5 rows per head"));
  const Heads h = some_heads(4, 2);
  const AttentionWeights short_bias{h.weights.query, h.weights.key, gaussian({15}, "b")};
  EXPECT_TRUE(says(error_of([&] { qk_clip(short_bias, four, h.layout, gqa); }), "query bias [16], got [15]"));
}

}  // namespace
}  // namespace schatten::testing
