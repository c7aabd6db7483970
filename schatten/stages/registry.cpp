#include <schatten/stages/adaptive.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

namespace {

template <HasFields Options>
StageInfo entry(std::string name, std::string summary, Stage (*make)(const Options&)) {
  return {name, std::move(summary), field_help<Options>(), [name, make](const Value& table) {
            Options options;
            read_fields(table, options, name);
            return make(options);
          }};
}

struct NoOptions {
  void fields(auto&&) {}
};

Value without(const Value& table, std::initializer_list<std::string_view> keys) {
  Value rest = Value::table();
  rest.origin = table.origin;
  for (const auto& [key, value] : table.as_table())
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) rest[key] = value;
  return rest;
}

Stage make_unnamed(const Value& table) {
  if (const Value* list = table.find("chain")) {
    std::vector<Stage> stages;
    for (const Value& item : list->as_array()) stages.push_back(make_stage(item));
    return chain(std::move(stages));
  }
  const Value* name = table.find("stage");
  if (!name)
    fail_usage({"stage", "a table with the key 'stage' or 'chain'", to_json(table),
                "For example { stage = \"ema\", beta = 0.95 }."});
  std::vector<std::string> known;
  for (const StageInfo& info : stage_registry()) {
    if (info.name == name->as_string()) return info.make(without(table, {"stage", "named"}));
    known.push_back(info.name);
  }
  fail_enum(*name, "", "stage", known);
}

}  // namespace

const std::vector<StageInfo>& stage_registry() {
  static const std::vector<StageInfo> registry{
      entry<NoOptions>("identity", "U = G", [](const NoOptions&) { return identity(); }),
      entry<Ema>("ema", "exponential moving average of the gradient", ema),
      entry<HeavyBall>("heavy_ball", "momentum as a sum", heavy_ball),
      entry<ScaleByAdam>("scale_by_adam", "first moment over root of second", scale_by_adam),
      entry<Orthogonalize>("orthogonalize", "singular values towards 1 (Newton-Schulz)", orthogonalize),
      entry<SpectralPower>("spectral_power", "singular values to the power p", spectral_power),
      entry<ScaleByShape>("scale_by_shape", "a factor of the matrix shape", scale_by_shape),
      entry<NormalizeUpdate>("normalize_update", "Frobenius norm of an orthogonal update",
                             [](const NormalizeUpdate&) { return normalize_update(); }),
  };
  return registry;
}

Stage make_stage(const Value& table) {
  Stage stage = make_unnamed(table);
  if (const Value* name = table.find("named")) return named(name->as_string(), std::move(stage));
  return stage;
}

}  // namespace schatten
