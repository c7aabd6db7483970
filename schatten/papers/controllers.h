// The controllers, by name: what configs and printed recipes go by.
#pragma once
#include <schatten/recipe/controller.h>

#include <functional>
#include <string>
#include <vector>

namespace schatten {

struct ControllerInfo {
  std::string name;
  std::string summary;
  std::vector<FieldHelp> options;
  std::function<Controller(const Value& options)> make;  // a table without the key `controller`
};
const std::vector<ControllerInfo>& controller_registry();

/// {controller = "qk_clip", tau = 100}
Controller make_controller(const Value& table);

}  // namespace schatten
