#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/parameters/split_master.h>

#include <bit>

namespace schatten {

namespace {

static_assert(std::endian::native == std::endian::little, "the lower half of a float32 comes first");
enum Half { kLower, kUpper };

bool is_16_bits(at::ScalarType dtype) { return dtype == at::kShort || dtype == at::kUInt16; }

/// The int16 bits of one half of every element, as a view.
Tensor half(const Tensor& master, Half which) { return master.unsqueeze(-1).view(at::kShort).select(-1, which); }

}  // namespace

Tensor join_master(const SplitMaster& parts) {
  const auto& [weight, mantissa] = parts;
  if (weight.scalar_type() != at::kBFloat16 || !is_16_bits(mantissa.scalar_type()) ||
      weight.sizes() != mantissa.sizes())
    fail_usage({"join_master", "a bfloat16 weight and an int16 or uint16 mantissa of its shape",
                c10::str(dtype_name(weight.scalar_type()), " ", weight.sizes(), " and ",
                         dtype_name(mantissa.scalar_type()), " ", mantissa.sizes()),
                ""});
  const Tensor master = at::empty(weight.sizes(), weight.options().dtype(at::kFloat));
  half(master, kUpper).copy_(weight.detach().view(at::kShort));
  half(master, kLower).copy_(mantissa.view(at::kShort));
  return master;
}

SplitMaster split_master(const Tensor& master, at::ScalarType mantissa_dtype) {
  if (master.scalar_type() != at::kFloat || !is_16_bits(mantissa_dtype))
    fail_usage({"split_master", "a float32 master and an int16 or uint16 mantissa",
                dtype_name(master.scalar_type()) + " and " + dtype_name(mantissa_dtype), ""});
  const Tensor m = master.detach();
  return {half(m, kUpper).contiguous().view(at::kBFloat16), half(m, kLower).contiguous().view(mantissa_dtype)};
}

}  // namespace schatten
