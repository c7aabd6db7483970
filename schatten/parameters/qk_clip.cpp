#include <ATen/ATen.h>
#include <schatten/parameters/qk_clip.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

using Factors = std::vector<double>;

int64_t kv_heads_of(const AttentionLayout& layout) { return layout.kv_heads > 0 ? layout.kv_heads : layout.heads; }

void check_options(const QkClipOptions& o) {
  if (!(o.tau > 0) || !std::isfinite(o.tau))
    fail_usage({"qk_clip", "tau finite and > 0", to_json(Value(o.tau)), "Kimi K2 used 100."});
  if (!(o.alpha >= 0 && o.alpha <= 1))
    fail_usage({"qk_clip", "alpha in [0, 1]", to_json(Value(o.alpha)), "0.5 splits evenly."});
}

void check_heads(const AttentionLayout& layout, QkClipMode mode) {
  const int64_t kv = kv_heads_of(layout);
  const std::string got = std::to_string(layout.heads) + " heads on " + std::to_string(kv);
  if (layout.heads <= 0 || layout.heads % kv != 0) fail_usage({"qk_clip", "heads > 0 that kv_heads divides", got, ""});
  if (kv != layout.heads && (mode == QkClipMode::mha || mode == QkClipMode::mla))
    fail_usage({"qk_clip", "as many kv_heads as heads for mode " + std::string(enum_name(mode)), got,
                "gqa_query_only and gqa_shared_key clip shared keys."});
  if (mode == QkClipMode::mla && (layout.nope <= 0 || layout.rope < 0))
    fail_usage({"qk_clip", "nope > 0 and rope >= 0 for mode mla", c10::str(layout.nope, " and ", layout.rope), ""});
}

/// NaN or +infinity would turn weights into NaN or 0; -infinity means that the head saw no pair.
std::vector<double> checked_logits(const Tensor& logits, int64_t heads) {
  if (logits.dim() != 1 || logits.size(0) != heads)
    fail_usage(
        {"qk_clip", "one largest logit per head, [" + std::to_string(heads) + "]", c10::str(logits.sizes()), ""});
  const Tensor values = logits.detach().to(at::kDouble).cpu().contiguous();
  const double* first = values.data_ptr<double>();
  for (int64_t h = 0; h < heads; ++h)
    if (!(first[h] < std::numeric_limits<double>::infinity()))
      fail({"qk_clip", "largest logits that are numbers", c10::str(first[h], " for head ", h),
            "The forward pass diverged: stop before the weights do."});
  return {first, first + heads};
}

Factors powers(const Factors& gamma, double exponent) {
  Factors out;
  for (const double g : gamma) out.push_back(std::pow(g, exponent));
  return out;
}

/// Each group's keys shrink as its most clipped head allows; queries do the rest.
void share_key(QkClipFactors& f, int64_t kv_heads, double exponent) {
  const size_t group = f.gamma.size() / static_cast<size_t>(kv_heads);
  const Factors wanted = powers(f.gamma, exponent);
  f.key.clear();
  for (size_t k = 0; k < f.gamma.size(); k += group)
    f.key.push_back(*std::min_element(wanted.begin() + static_cast<std::ptrdiff_t>(k),
                                      wanted.begin() + static_cast<std::ptrdiff_t>(k + group)));
  for (size_t h = 0; h < f.gamma.size(); ++h) f.query[h] = f.gamma[h] / f.key[h / group];
}

/// Consecutive rows of a head and their factors; none: 1.
struct RowBlock {
  int64_t rows;
  const Factors* factors;
};

void scale_rows(const Tensor& tensor, const std::vector<RowBlock>& blocks, size_t heads) {
  if (!tensor.defined()) return;
  std::vector<double> rows;
  for (size_t h = 0; h < heads; ++h)
    for (const RowBlock& b : blocks)
      rows.insert(rows.end(), static_cast<size_t>(b.rows), b.factors ? (*b.factors)[h] : 1);
  if (std::all_of(rows.begin(), rows.end(), [](double r) { return r == 1; })) return;
  // A factor of 1 keeps bits. Half types multiply in float32 and round once.
  const auto dtype = at_least_float32(tensor.scalar_type());
  const Tensor column = at::tensor(rows, at::kDouble).to(tensor.device(), dtype);
  tensor.mul_(tensor.dim() == 1 ? column : column.unsqueeze(1));
}

int64_t rows_per_head(const char* what, const Tensor& weight, const Tensor& bias, int64_t heads) {
  if (!weight.defined() || weight.dim() != 2 || weight.size(0) % heads != 0)
    fail_usage({"qk_clip", std::string(what) + " [heads * head_dim, width] for " + std::to_string(heads) + " heads",
                weight.defined() ? c10::str(weight.sizes()) : "nothing", ""});
  if (bias.defined() && (bias.dim() != 1 || bias.size(0) != weight.size(0)))
    fail_usage(
        {"qk_clip", std::string(what) + " bias [" + std::to_string(weight.size(0)) + "]", c10::str(bias.sizes()), ""});
  return weight.size(0) / heads;
}

struct Blocks {
  std::vector<RowBlock> query, key;
};

Blocks blocks_of(const AttentionWeights& w, const AttentionLayout& layout, QkClipMode mode, const QkClipFactors& f) {
  const int64_t q = rows_per_head("query", w.query, w.query_bias, layout.heads);
  const int64_t k = rows_per_head("key", w.key, w.key_bias, kv_heads_of(layout));
  if (mode != QkClipMode::mla) {
    if (q != k) fail_usage({"qk_clip", "one head_dim for query and key", c10::str(q, " and ", k), ""});
    return {{{q, &f.query}}, {{k, &f.key}}};
  }
  if (q != layout.nope + layout.rope || k < layout.nope)
    fail_usage({"qk_clip",
                c10::str("q_b with ", layout.nope + layout.rope, " rows per head, kv_b with at least ", layout.nope),
                c10::str(q, " and ", k), "Rows per head: q_b [nope; rope], kv_b [nope; value]."});
  return {{{layout.nope, &f.query}, {layout.rope, &f.gamma}}, {{layout.nope, &f.key}, {k - layout.nope, nullptr}}};
}

}  // namespace

QkClipFactors qk_clip_factors(const Tensor& largest_logits, const AttentionLayout& layout,
                              const QkClipOptions& options) {
  check_options(options);
  check_heads(layout, options.mode);
  QkClipFactors f;
  for (const double s : checked_logits(largest_logits, layout.heads))
    f.gamma.push_back(s > options.tau ? options.tau / s : 1);
  const bool query_only = options.mode == QkClipMode::gqa_query_only;
  f.query = query_only ? f.gamma : powers(f.gamma, options.alpha);
  f.key = query_only ? Factors(static_cast<size_t>(kv_heads_of(layout)), 1.0) : powers(f.gamma, 1 - options.alpha);
  if (options.mode == QkClipMode::gqa_shared_key) share_key(f, kv_heads_of(layout), 1 - options.alpha);
  return f;
}

QkClipFactors qk_clip(const AttentionWeights& weights, const Tensor& largest_logits, const AttentionLayout& layout,
                      const QkClipOptions& options) {
  const QkClipFactors f = qk_clip_factors(largest_logits, layout, options);
  const Blocks blocks = blocks_of(weights, layout, options.mode, f);
  for (const Tensor& t : {weights.query, weights.query_bias}) scale_rows(t, blocks.query, f.query.size());
  for (const Tensor& t : {weights.key, weights.key_bias}) scale_rows(t, blocks.key, f.key.size());
  return f;
}

}  // namespace schatten
