// Shared by the spectral maps; not public.
#pragma once
#include <schatten/core/tensor.h>

#include <cstdint>
#include <functional>

namespace schatten {

/// Singular values below this share of the largest are rounding noise: eps * max(m, n).
double rank_floor(at::ScalarType dtype, int64_t rows, int64_t cols);

/// Largest magnitude, 0 for none; NaN where there is one. (Far faster than isfinite().all() and norms of order infinity.)
double largest_entry(const Tensor& x);

/// f(matrix, number) for every [m, n] of [.., m, n], in float32 or float64 and never empty.
Tensor each_matrix(const Tensor& x, const std::function<Tensor(const Tensor&, int64_t)>& f);
/// The same for an f that needs finite entries: NaN and infinity in give NaN out.
Tensor with_each_matrix(const Tensor& x, const std::function<Tensor(const Tensor&)>& f);

}  // namespace schatten
