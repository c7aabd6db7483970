#include <schatten/core/error.h>

#include "cli/commands.h"

namespace schatten::cli {

Value load_config(const std::string& file, const std::vector<std::string>& settings) {
  Value table = file.empty() ? Value::table() : load_toml(file);
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0)
      fail_usage({"--set", "key=value", "'" + setting + "'", "For example --set train.steps=100."});
    set_path(table, std::string_view(setting).substr(0, equals), std::string_view(setting).substr(equals + 1));
  }
  return table;
}

}  // namespace schatten::cli
