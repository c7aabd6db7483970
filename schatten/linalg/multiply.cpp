#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/linalg/multiply.h>
#include <schatten/linalg/plain.h>
#include <schatten/linalg/symmetric_product_impl.h>

#include <algorithm>
#include <optional>

namespace schatten {

namespace {

/// Kernels that beat ATen at this accuracy; none: ATen in float32.
std::optional<Arithmetic> fast_arithmetic(Products wanted, Isa isa) {
  const bool amx = block_kernels(isa, Arithmetic::bfloat16x2) != nullptr;
  const auto when = [](bool there, Arithmetic a) { return there ? std::optional(a) : std::nullopt; };
  switch (wanted) {
    case Products::automatic:
    case Products::bfloat16x2: return when(amx, Arithmetic::bfloat16x2);
    case Products::bfloat16: return when(isa >= Isa::avx512_bf16, Arithmetic::bfloat16);
    case Products::float32: break;
  }
  return std::nullopt;
}

bool fits(const Tensor& x) {
  return x.dim() == 2 && x.scalar_type() == at::kFloat && x.is_cpu() && (x.stride(0) == 1 || x.stride(1) == 1);
}

/// Importing a small matrix into blocks costs more than its product.
bool large(int64_t m, int64_t k, int64_t n) {
  constexpr int64_t kSmallest = 64;
  return std::min({m, k, n}) >= kSmallest;
}

Tiled imported(Scratch& scratch, const BlockKernels& kernels, const Tensor& x) {
  const Tiled blocks = take_tiled(scratch, kernels, x.size(0), x.size(1));
  import_matrix(kernels, plain(x), 1, blocks);
  return blocks;
}

void check(const char* who, const Tensor& a, const Tensor& b) {
  if (a.dim() != 2 || b.dim() != 2 || a.size(1) != b.size(0) || a.scalar_type() != b.scalar_type())
    fail_usage({who, "matrices [m, k] and [k, n] of one dtype",
                c10::str(a.sizes(), " ", a.scalar_type(), " and ", b.sizes(), " ", b.scalar_type()), ""});
}

}  // namespace

std::string decided_products(Products wanted, at::ScalarType dtype, Isa isa) {
  if (dtype == at::kDouble) return "";
  const auto fast = fast_arithmetic(wanted, isa);
  return "products in " + std::string(fast ? enum_name(*fast) : "float32");
}

Tensor multiply(const Tensor& a, const Tensor& b, Products how, Isa isa) {
  check("multiply", a, b);
  const auto fast = fast_arithmetic(how, isa);
  if (!fast || !fits(a) || !fits(b) || !large(a.size(0), a.size(1), b.size(1))) return at::mm(a, b);
  const BlockKernels& kernels = *block_kernels(isa, *fast);
  Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  Scratch scratch;
  const Tiled left = imported(scratch, kernels, a), right = imported(scratch, kernels, b);
  const Plain to = plain(c);
  multiply(kernels, {.a = left, .b = right, .plain = &to});
  return c;
}

Tensor multiply(const Tensor& a, const Tensor& x, const Tensor& b, Products how, Isa isa) {
  check("multiply", a, x);
  check("multiply", x, b);
  const auto fast = fast_arithmetic(how, isa);
  const bool blocks = fast && fits(a) && fits(x) && fits(b) && large(a.size(0), a.size(1), x.size(1)) &&
                      large(a.size(0), x.size(1), b.size(1));
  if (!blocks) return multiply(multiply(a, x, how, isa), b, how, isa);
  const BlockKernels& kernels = *block_kernels(isa, *fast);
  Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  Scratch scratch;
  const Tiled left = imported(scratch, kernels, a), middle = imported(scratch, kernels, x);
  const Tiled right = imported(scratch, kernels, b), half = take_tiled(scratch, kernels, a.size(0), x.size(1));
  multiply(kernels, {.a = left, .b = middle, .tiled = &half});
  const Plain to = plain(c);
  multiply(kernels, {.a = half, .b = right, .plain = &to});
  return c;
}

Tensor gram_of_rows(const Tensor& x, Products how, Isa isa) {
  check("gram_of_rows", x, x.mT());
  const Arithmetic arithmetic = fast_arithmetic(how, isa).value_or(Arithmetic::float32);
  const BlockKernels* kernels = block_kernels(isa, arithmetic);
  if (!kernels || !fits(x) || !large(x.size(0), x.size(1), x.size(0))) return symmetric_product(x, x.mT());
  Tensor c = at::empty({x.size(0), x.size(0)}, x.options());
  Scratch scratch;
  const Tiled tiled = imported(scratch, *kernels, x);
  const Plain to = plain(c);
  multiply(*kernels, {.a = tiled, .b = tiled, .transposed = true, .symmetric = true, .plain = &to});
  return c;
}

}  // namespace schatten
