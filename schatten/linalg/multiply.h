// Products of two matrices by whatever is fastest at the wanted accuracy: the block kernels, or ATen.
#pragma once
#include <schatten/core/tensor.h>
#include <schatten/kernels/products.h>

#include <array>
#include <string>
#include <string_view>

namespace schatten {

/// What the entries of float32 matrices are inside products; sums are float32. Relative error |error|_F / |A B|_F of
/// Gaussian matrices, inner dimension 512 to 1376:
///   float32     4e-7   ATen's mm; A A^T by blocks, half the work
///   bfloat16x2  5e-6   16 bits as two bfloat16; twice as fast as float32 with AMX
///   bfloat16    2e-3   8 bits; seven times as fast with AMX
///   auto        bfloat16x2 with AMX, else float32
/// float64 matrices are always multiplied as they are. Where an instruction set has no kernel, float32 takes its place:
/// `decided` says what is in use.
enum class Products { automatic, float32, bfloat16x2, bfloat16 };
constexpr auto enum_names(Products) {
  return std::to_array<std::string_view>({"auto", "float32", "bfloat16x2", "bfloat16"});
}
inline constexpr const char* kProductsHelp =
    "accuracy of matrix products: auto (bfloat16x2 with AMX, else float32), float32, bfloat16x2 (5e-6), bfloat16 "
    "(2e-3)";

/// "products in bfloat16x2": what `wanted` comes to.
std::string decided_products(Products wanted, at::ScalarType dtype, Isa isa);

/// A B [m, n] of A [m, k] and B [k, n], which may be transposed views. NaN and infinities go through.
/// Checked linalg/multiply.
Tensor multiply(const Tensor& a, const Tensor& b, Products how, Isa isa);
/// A X B, without a detour through memory between the two.
Tensor multiply(const Tensor& a, const Tensor& x, const Tensor& b, Products how, Isa isa);
/// X X^T [m, m] of X [m, n], symmetric up to rounding (1e-8).
Tensor gram_of_rows(const Tensor& x, Products how, Isa isa);

}  // namespace schatten
