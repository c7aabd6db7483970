// What the files of the fused twins share; not public.
#pragma once
#include <schatten/engine/fused.h>

namespace schatten {

/// The options of a stage, when it is the one of that name.
template <HasFields Options>
std::optional<Options> read_stage(const Value& printed, std::string_view name) {
  const Value* stage = printed.find("stage");
  if (!stage || stage->as_string() != name) return std::nullopt;
  Options options;
  read_fields(without(printed, {"stage", "named"}), options, name);
  return options;
}

/// What a kernel is told of decay and the step.
WeightRule weight_rule(const FusedStep& step);
/// ema or heavy_ball.
std::optional<MomentumRule> momentum_rule(const Value& printed);

inline float* floats(const Tensor& t, int64_t from) { return t.mutable_data_ptr<float>() + from; }

template <class To>
To numbers(const Tensor& t, int64_t from) {
  if (t.scalar_type() == at::kFloat) return floats(t, from);
  return reinterpret_cast<uint16_t*>(t.mutable_data_ptr<at::BFloat16>()) + from;
}

}  // namespace schatten
