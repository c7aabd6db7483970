#include <schatten/train/kernel_choice.h>

#include <map>
#include <set>

namespace schatten {

ChosenKernels choose_kernels(KernelChoice wanted, const std::optional<std::string>& saved, Isa here, Isa best) {
  if (wanted != KernelChoice::automatic)
    return {checked_isa(static_cast<Isa>(static_cast<int>(wanted) - 1), "optimizer.kernels",
                        "auto takes the best there are.", best)};
  if (!saved) return {here};
  Isa isa{};
  read_field(Value(*saved), "checkpoint", "kernels", isa);
  const std::string before = "note: the checkpoint was written with " + *saved + " kernels";
  if (isa < here) return {isa, before + ", so the run goes on with them (here: " + std::string(enum_name(here)) + ")"};
  if (isa == here) return {isa};
  const bool limited = here < best;
  return {here, before + ", " + (limited ? "SCHATTEN_ISA allows " : "this CPU has ") + std::string(enum_name(here)) +
                    ": results may differ in the last bits"};
}

Value kernel_plans(const std::vector<Route>& routes, const std::vector<ParameterInfo>& parameters,
                   at::ScalarType parameter_dtype, Isa isa) {
  std::map<std::string, std::set<std::string>> all;  // heads may split matrices of one shape in several ways
  const std::vector<size_t> assigned = assign_routes(routes, parameters);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Route& route = routes[assigned[i]];
    const Bucket bucket = bucket_of(parameters[i], at_least_float32(parameter_dtype));
    const std::string shape = std::to_string(bucket.rows) + "x" + std::to_string(bucket.cols);
    if (const std::string text = route.recipe.direction.decided(bucket, isa); !text.empty())
      all[route.match + " " + shape].insert(text);
  }
  Value plans = Value::table();
  for (const auto& [key, texts] : all) {
    std::string joined;
    for (const std::string& text : texts) joined += (joined.empty() ? "" : " | ") + text;
    plans[key] = joined;
  }
  return plans;
}

std::string changed_plans(const Value& saved, const Value& now) {
  std::string first;
  int64_t count = 0;
  for (const auto& [key, text] : now.as_table()) {
    const std::string before = saved.string_or(key, "nothing said");
    if (before == text.as_string()) continue;
    if (count++ == 0) first = key + " by \"" + text.as_string() + "\", before by \"" + before + "\"";
  }
  if (count == 0) return "";
  return "note: this version computes " + std::to_string(count) + " of " + std::to_string(now.as_table().size()) +
         " kinds of matrices otherwise than the checkpoint's (" + first + "): results may differ";
}

}  // namespace schatten
