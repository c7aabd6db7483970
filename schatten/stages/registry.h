// Every stage by name: what configs, laws and help go by. A new stage adds one line in registry.cpp.
#pragma once
#include <schatten/stages/stage.h>

#include <functional>
#include <string>
#include <vector>

namespace schatten {

struct StageInfo {
  std::string name;
  std::string summary;
  std::vector<FieldHelp> options;
  std::function<Stage(const Value& options)> make;  // a table without the key `stage`
};
const std::vector<StageInfo>& stage_registry();

/// {stage = "ema", beta = 0.95}, or {chain = [...]}; `named = "x"` keeps state under that name.
Stage make_stage(const Value& table);

}  // namespace schatten
