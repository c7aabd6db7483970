#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <schatten/linalg/symmetric_product_impl.h>

#include <algorithm>

namespace schatten {

namespace {

Tensor in_full(const Tensor& a, const Tensor& b, const Tensor& s, double beta, double alpha) {
  if (!s.defined()) return at::matmul(a, b);
  return a.dim() == 2 ? at::addmm(s, a, b, beta, alpha) : at::baddbmm(s, a, b, beta, alpha);
}

/// Block rows, of at least 192 rows: below 161 MKL takes another algorithm where it has one thread only, and the result
/// would depend on how many matrices are stepped at once.
int64_t block_rows(int64_t n) { return std::clamp<int64_t>(n / 192, 1, 8); }

/// Columns [from, end) of the rows above, from the rows [from, end).
template <class Entry>
void mirror(Entry* c, int64_t n, int64_t from, int64_t end) {
  constexpr int64_t kTile = 32;  // both sides of one stay in the nearest cache
  for (int64_t i0 = from; i0 < end; i0 += kTile)
    for (int64_t j0 = 0; j0 < from; j0 += kTile)
      for (int64_t j = j0; j < std::min(j0 + kTile, from); ++j)
        for (int64_t i = i0; i < std::min(i0 + kTile, end); ++i) c[j * n + i] = c[i * n + j];
}

}  // namespace

double symmetric_share(int64_t n, int64_t depth, at::ScalarType dtype) {
  constexpr int64_t kShallow = 192;  // the mirror is not free
  // bfloat16: AMX is so fast that the mirror costs more than it spares.
  const bool pays = block_rows(n) > 1 && depth >= kShallow && (dtype == at::kFloat || dtype == at::kDouble);
  const auto blocks = static_cast<double>(block_rows(n));
  return pays ? (blocks + 1) / (2 * blocks) + 0.09 : 1;
}

/// `s` undefined: A B alone.
Tensor symmetric_product(const Tensor& a, const Tensor& b, const Tensor& s, double beta, double alpha) {
  const int64_t n = a.size(-2);
  // Threads inside narrow products wait for each other: two lose up to 1024.
  const bool alone = at::in_parallel_region() || at::get_num_threads() == 1;
  if (a.dim() != 2 || !a.is_cpu() || !alone || symmetric_share(n, a.size(1), a.scalar_type()) == 1)
    return in_full(a, b, s, beta, alpha);
  Tensor c = at::empty({n, n}, a.options());
  const auto part = [](const Tensor& t, int64_t from, int64_t end) {
    return t.narrow(0, from, end - from).narrow(1, 0, end);
  };
  for (int64_t block = 0, blocks = block_rows(n); block < blocks; ++block) {
    const int64_t from = n * block / blocks, end = n * (block + 1) / blocks;
    Tensor rows = part(c, from, end);
    const Tensor left = a.narrow(0, from, end - from), right = b.narrow(1, 0, end);
    if (s.defined()) at::addmm_out(rows, part(s, from, end), left, right, beta, alpha);
    else at::mm_out(rows, left, right);
    if (c.scalar_type() == at::kDouble) mirror(c.data_ptr<double>(), n, from, end);
    else mirror(c.data_ptr<float>(), n, from, end);
  }
  return c;
}

Tensor symmetric_product(const Tensor& a, const Tensor& b) { return symmetric_product(a, b, {}, 0, 1); }

}  // namespace schatten
