// Symmetric products by ATen at less than the price of full ones.
#pragma once
#include <schatten/core/tensor.h>

namespace schatten {

/// A B [.., n, n] of A [.., n, K], where that is symmetric: B = A^T, or A and B symmetric and commuting. Block rows of one
/// triangle, mirrored, where `symmetric_share` is below 1; batches, other devices and work on several threads go in full.
/// Checked  linalg/symmetric_product.
Tensor symmetric_product(const Tensor& a, const Tensor& b);
/// beta S + alpha A B, S symmetric, rounded once.
Tensor symmetric_product(const Tensor& a, const Tensor& b, const Tensor& s, double beta, double alpha);

/// What one on one thread costs against the full product.
double symmetric_share(int64_t n, int64_t depth, at::ScalarType dtype);

}  // namespace schatten
