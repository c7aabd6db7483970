// What a model says about each of its parameters: what routing, splitting and random draws go by.
#pragma once
#include <schatten/core/tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

enum class Role { hidden_matrix, embedding, head, gain, bias, conv };
constexpr auto enum_names(Role) {
  return std::to_array<std::string_view>({"hidden_matrix", "embedding", "head", "gain", "bias", "conv"});
}
std::string_view to_string(Role role);

/// What a matrix is within its block, where that decides how it is split (heads) or clipped (query and key).
enum class Projection { none, query, key, value, output, fused_qkv };
constexpr auto enum_names(Projection) {
  return std::to_array<std::string_view>({"none", "query", "key", "value", "output", "fused_qkv"});
}

/// Stated by models; worked out from names and shapes for foreign modules.
struct ParameterInfo {
  std::string name;
  int64_t index = 0;  // position in the model's list: random draws go by it
  Role role = Role::hidden_matrix;
  std::vector<int64_t> shape{};
  int block = -1;  // transformer block, -1 outside
  int blocks = 0;  // how many the model has
  Projection projection = Projection::none;
  int heads = 0, kv_heads = 0;         // attention projections only: how many heads the rows fall into
  int nope_rows = 0, rope_rows = 0;    // latent attention (MLA): rows per head without and with rotation
  std::vector<int64_t> fused_parts{};  // rows of fused q, k, v
  int unit_axis = -1;                  // nGPT: axis along which the model keeps unit norm (1: each row, 0: each column)

  int64_t numel() const;
  /// The matrix view that stages see: conv [out, in*kh*kw], vector [1, n].
  int64_t rows() const;
  int64_t cols() const;
};

/// A parameter and what is known of it. `tensor` is the leaf that autograd fills.
struct Parameter {
  ParameterInfo info;
  Tensor tensor;
};

/// Role and block of a parameter whose module does not state them, worked out from its name and shape:
///   one dimension longer than 1 at most    bias where the name ends so, else gain
///   "embed", "wte", "wpe", "emb"           embedding
///   "head", "output", "classifier", ...    head, unless it lies in a block
///   more than two dimensions               conv
///   all others                             hidden_matrix
/// block: the first number among the inner parts of the name ("model.layers.3.mlp.up.weight": 3).
ParameterInfo infer_parameter(std::string name, std::vector<int64_t> shape, int64_t index);
/// Tells each how many blocks there are: the largest number and one.
void count_blocks(std::vector<Parameter>& parameters);

}  // namespace schatten
