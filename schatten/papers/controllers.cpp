#include <schatten/papers/alpha_decay.h>
#include <schatten/papers/controllers.h>
#include <schatten/papers/muonclip.h>

namespace schatten {

namespace {

template <HasFields Options>
ControllerInfo entry(std::string name, std::string summary, Controller (*make)(const Options&)) {
  return {name, std::move(summary), field_help<Options>(), [name, make](const Value& table) {
            Options options;
            read_fields(table, options, name);
            return make(options);
          }};
}

}  // namespace

const std::vector<ControllerInfo>& controller_registry() {
  static const std::vector<ControllerInfo> registry{
      entry<AlphaDecayControl>("alpha_decay", "weight decay by the power-law alpha of each matrix",
                               alpha_decay_control),
      entry<QkClipControl>("qk_clip", "query and key heads shrink where attention logits exceed tau", qk_clip_control),
  };
  return registry;
}

Controller make_controller(const Value& table) {
  const Value* name = table.find("controller");
  if (!name)
    fail_usage({"controller", "a table with the key 'controller'", to_json(table),
                "For example { controller = \"qk_clip\", tau = 100 }."});
  std::vector<std::string> known;
  for (const ControllerInfo& info : controller_registry()) {
    if (info.name == name->as_string()) return info.make(without(table, {"controller"}));
    known.push_back(info.name);
  }
  fail_enum(*name, "", "controller", known);
}

}  // namespace schatten
