#include <ATen/ATen.h>
#include <schatten/stages/adam_mini.h>
#include <schatten/stages/checks.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

RowBlocks per_head(const ParameterInfo& p, int64_t rows, int heads) {
  if (heads < 1 || rows % heads != 0)
    fail_usage({"scale_by_adam_mini",
                "a number of heads that divides the " + std::to_string(rows) + " rows of '" + p.name + "'",
                std::to_string(heads), "State heads (kv_heads for keys) in its ParameterInfo."});
  return {rows, rows / heads};
}

int query_heads(const ParameterInfo& p) { return p.heads; }
int key_heads(const ParameterInfo& p) { return p.kv_heads > 0 ? p.kv_heads : p.heads; }

std::vector<RowBlocks> fused_blocks(const ParameterInfo& p) {
  if (p.fused_parts.size() != 3)
    fail_usage({"scale_by_adam_mini", "three fused parts of '" + p.name + "'", std::to_string(p.fused_parts.size()),
                "State the rows of query, key and value as fused_parts in its ParameterInfo."});
  return {per_head(p, p.fused_parts[0], query_heads(p)),
          per_head(p, p.fused_parts[1], key_heads(p)),
          {p.fused_parts[2], 1}};
}

/// Means over the blocks: [.., rows, n] -> [.., blocks, 1].
Tensor block_means(const Tensor& x, const std::vector<RowBlocks>& blocks) {
  const Tensor rows = x.mean(-1, true);
  std::vector<Tensor> parts;
  int64_t from = 0;
  for (const auto& [count, size] : blocks) {
    parts.push_back(rows.narrow(-2, from, count).unflatten(-2, {count / size, size}).mean(-2));
    from += count;
  }
  return at::cat(parts, -2);
}

/// One number per block, for each of its rows: [.., blocks, 1] -> [.., rows, 1].
Tensor spread(const Tensor& per_block, const std::vector<RowBlocks>& blocks) {
  std::vector<Tensor> parts;
  int64_t from = 0;
  for (const auto& [count, size] : blocks) {
    parts.push_back(per_block.narrow(-2, from, count / size).repeat_interleave(size, -2));
    from += count / size;
  }
  return at::cat(parts, -2);
}

}  // namespace

std::vector<RowBlocks> adam_mini_blocks(const ParameterInfo& p, int64_t rows) {
  if (p.role == Role::bias) return {};
  if (rows != p.rows()) return {{rows, 1}};
  if (p.role == Role::gain || p.role == Role::conv) return {{rows, rows}};
  switch (p.projection) {
    case Projection::query: return {per_head(p, rows, query_heads(p))};
    case Projection::key: return {per_head(p, rows, key_heads(p))};
    case Projection::fused_qkv: return fused_blocks(p);
    case Projection::none:
    case Projection::value:
    case Projection::output: break;
  }
  return {{rows, 1}};
}

Stage scale_by_adam_mini(const ScaleByAdamMini& o) {
  check_share("scale_by_adam_mini", "beta1", o.beta1);
  check_share("scale_by_adam_mini", "beta2", o.beta2);
  check_non_negative("scale_by_adam_mini", "eps", o.eps);
  return o;
}

StateSpec ScaleByAdamMini::state(const Bucket& b) const {
  SlotSpec second{.name = "exp_avg_sq", .follows = Follows::permutation};
  int64_t count = 0;
  for (const auto& [rows, size] : adam_mini_blocks(*b.parameter, b.rows)) count += rows / size;
  if (count > 0) second.shape = {count, 1};
  return {.name = name(), .slots = {{"exp_avg"}, second}};
}

Tensor ScaleByAdamMini::apply(const Tensor& u, State& s, const Step& step) const {
  Tensor &m = s["exp_avg"], &v = s["exp_avg_sq"];
  const std::vector<RowBlocks> blocks = adam_mini_blocks(step.parameter, u.size(-2));
  m.lerp_(u, 1 - beta1);
  const Tensor squares = u.square();
  v.mul_(beta2).add_(blocks.empty() ? squares : block_means(squares, blocks), 1 - beta2);
  const auto t = static_cast<double>(step.step);
  Tensor root = v.sqrt().div_(std::sqrt(1 - std::pow(beta2, t))).add_(eps);
  if (!blocks.empty()) root = spread(root, blocks);
  return m.div(root).div_(1 - std::pow(beta1, t));
}

}  // namespace schatten
