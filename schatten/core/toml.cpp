#include <schatten/core/error.h>
#include <schatten/core/value.h>

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace schatten {

namespace {

Value convert(const toml::node& node, const std::string& file);

Value convert_table(const toml::table& table, const std::string& file) {
  // toml++ sorts by key; the order of writing is kept by the keys' own positions.
  std::vector<std::pair<toml::source_position, std::pair<std::string, const toml::node*>>> rows;
  for (const auto& [key, node] : table) rows.push_back({key.source().begin, {std::string(key.str()), &node}});
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Value::Table out;
  for (const auto& [position, row] : rows) {
    Value value = convert(*row.second, file);
    if (position.line > 0) value.origin = {file, static_cast<int>(position.line), static_cast<int>(position.column)};
    out.emplace_back(row.first, std::move(value));
  }
  return Value(std::move(out));
}

Value convert_array(const toml::array& array, const std::string& file) {
  Value::Array out;
  for (const auto& node : array) out.push_back(convert(node, file));
  return Value(std::move(out));
}

template <class T>
std::string text_of(const toml::value<T>& value) {
  std::ostringstream text;
  text << value.get();
  return text.str();
}

Value convert(const toml::node& node, const std::string& file) {
  Value value;
  if (const auto* table = node.as_table()) value = convert_table(*table, file);
  else if (const auto* array = node.as_array()) value = convert_array(*array, file);
  else if (const auto* text = node.as_string()) value = Value(text->get());
  else if (const auto* integer = node.as_integer()) value = Value(integer->get());
  else if (const auto* real = node.as_floating_point()) value = Value(real->get());
  else if (const auto* flag = node.as_boolean()) value = Value(flag->get());
  else if (const auto* date = node.as_date()) value = Value(text_of(*date));
  else if (const auto* time = node.as_time()) value = Value(text_of(*time));
  else if (const auto* both = node.as_date_time()) value = Value(text_of(*both));
  const auto begin = node.source().begin;
  value.origin = {file, static_cast<int>(begin.line), static_cast<int>(begin.column)};
  return value;
}

bool is_bare(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
}

std::string in_quotes(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (u < 0x20 || u == 0x7f) out += std::string("\\u00") + kHex[u >> 4] + kHex[u & 15];
    else out += c;
  }
  return out + '"';
}

std::string key_text(std::string_view key) { return is_bare(key) ? std::string(key) : in_quotes(key); }

std::string real_text(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
  std::string text(buffer, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string inline_text(const Value& v) {
  if (v.is_bool()) return v.as_bool() ? "true" : "false";
  if (v.is_integer()) return std::to_string(v.as_integer());
  if (v.is_real()) return real_text(v.as_real());
  if (v.is_string()) return in_quotes(v.as_string());
  std::string text;
  if (v.is_array()) {
    for (const Value& item : v.as_array()) text += (text.empty() ? "" : ", ") + inline_text(item);
    return "[" + text + "]";
  }
  for (const auto& [key, value] : v.as_table())
    if (!value.is_null()) text += (text.empty() ? " " : ", ") + key_text(key) + " = " + inline_text(value);
  return text.empty() ? "{}" : "{" + text + " }";
}

void write_table(const Value& table, const std::string& path, std::string& out) {
  for (const auto& [key, value] : table.as_table())
    if (!value.is_table() && !value.is_null()) out += key_text(key) + " = " + inline_text(value) + "\n";
  for (const auto& [key, value] : table.as_table()) {
    if (!value.is_table()) continue;
    const std::string name = path.empty() ? key_text(key) : path + "." + key_text(key);
    out += (out.empty() ? "[" : "\n[") + name + "]\n";
    write_table(value, name, out);
  }
}

}  // namespace

Value parse_toml(std::string_view text, std::string_view file) {
  const std::string name(file);
  try {
    return convert(toml::parse(text, name), name);
  } catch (const toml::parse_error& error) {
    const auto begin = error.source().begin;
    const Origin at{name, static_cast<int>(begin.line), static_cast<int>(begin.column)};
    fail_usage({at.to_string(), "TOML", std::string(error.description()), ""});
  }
}

std::string to_toml(const Value& table) {
  std::string out;
  write_table(table, "", out);
  return out;
}

}  // namespace schatten
