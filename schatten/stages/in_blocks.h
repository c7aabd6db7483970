// A bracket that splits a matrix into blocks of rows and runs its inner stage on each.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// fused: the parts of fused q, k, v. heads: those, and each query, key and value projection into its heads.
enum class BlockRows { fused, heads };
constexpr auto enum_names(BlockRows) { return std::to_array<std::string_view>({"fused", "heads"}); }

/// A block of rows as a parameter of its own: its shape, its place.
struct RowBlock {
  int64_t from = 0;
  ParameterInfo info;
};
/// What a parameter falls into; the whole of it where its description says nothing of heads or fused parts.
std::vector<RowBlock> row_blocks(const ParameterInfo& parameter, BlockRows by);

/// Each block of rows is a matrix of its own.
///   U = [inner(X_1); inner(X_2); ..]                                               [.., m, n]
/// What splits a parameter is its description: fused_parts (fused_qkv), heads (query), kv_heads (key, value). The inner
/// stage sees each block's own shape, so that scale_by_shape scales per block.
/// State     the inner stage's, once per block.   Locality  row at least.
/// Source    per-head and fused splits of microsoft/dion, Dao-AILab/gram-newton-schulz, torchtitan.
/// Checked   identity/in_blocks_*, law/*.
struct InBlocks {
  BlockRows by = BlockRows::heads;
  void fields(auto&& visit) { visit("by", by, "heads, fused (whole q, k, v of a fused projection)"); }
};
Stage in_blocks(const InBlocks& options, Stage inner);

}  // namespace schatten
