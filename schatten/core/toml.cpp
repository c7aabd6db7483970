#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/core/text.h>
#include <schatten/core/value.h>
#include <toml++/toml.h>

#include <algorithm>

namespace schatten {
namespace {

constexpr int max_depth = 64;

/// Turns toml++'s tree into ours, in the order of the text.
class Reader {
 public:
  explicit Reader(std::string_view file) : file_(file) {}

  Value table(const toml::table& from, const toml::source_position& at, int depth) const {
    std::vector<std::pair<const toml::key*, const toml::node*>> entries;
    for (const auto& [key, node] : from) entries.emplace_back(&key, &node);
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.first->source().begin < b.first->source().begin; });
    Value::Table members;
    for (const auto& [key, node] : entries)
      members.emplace_back(std::string(key->str()), value(*node, key->source().begin, depth + 1));
    return placed(Value(std::move(members)), at);
  }

 private:
  Value value(const toml::node& node, const toml::source_position& at, int depth) const {
    if (depth > max_depth)
      fail_usage({"config", "at most " + std::to_string(max_depth) + " nested levels",
                  "more at " + origin(at).to_string(), ""});
    if (const auto* t = node.as_table()) return table(*t, at, depth);
    if (const auto* a = node.as_array()) return array(*a, at, depth);
    if (const auto* b = node.as_boolean()) return placed(Value(b->get()), at);
    if (const auto* i = node.as_integer()) return placed(Value(i->get()), at);
    if (const auto* f = node.as_floating_point()) return placed(Value(f->get()), at);
    if (const auto* s = node.as_string()) return placed(Value(s->get()), at);
    fail_usage({"config", "a string, number, boolean, array or table", "a date or time at " + origin(at).to_string(),
                "Write it in quotes."});
  }

  Value array(const toml::array& from, const toml::source_position& at, int depth) const {
    Value::Array items;
    for (const toml::node& item : from) items.push_back(value(item, item.source().begin, depth + 1));
    return placed(Value(std::move(items)), at);
  }

  Origin origin(const toml::source_position& at) const {
    return {file_, static_cast<int>(at.line), static_cast<int>(at.column)};
  }
  Value placed(Value value, const toml::source_position& at) const {
    value.origin = origin(at);
    return value;
  }

  std::string file_;
};

bool is_bare(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

void append_key(std::string& out, std::string_view key) {
  if (is_bare(key)) {
    out += key;
  } else {
    append_quoted(out, key);
  }
}

void append_inline(std::string& out, const Value& value);

void append_inline_array(std::string& out, const Value& array) {
  out += '[';
  std::string_view comma = "";
  for (const Value& item : array.as_array()) {
    out += comma;
    append_inline(out, item);
    comma = ", ";
  }
  out += ']';
}

void append_inline_table(std::string& out, const Value& table) {
  out += '{';
  std::string_view comma = " ";
  for (const auto& [key, value] : table.as_table()) {
    if (value.is_null()) continue;
    out += comma;
    append_key(out, key);
    out += " = ";
    append_inline(out, value);
    comma = ", ";
  }
  out += " }";
}

void append_inline(std::string& out, const Value& value) {
  if (value.is_table()) return append_inline_table(out, value);
  if (value.is_array()) return append_inline_array(out, value);
  if (value.is_string()) return append_quoted(out, value.as_string());
  if (value.is_real()) return append_real(out, value.as_real());
  if (value.is_null()) fail_usage({"TOML", "values", "nothing inside an array", "TOML has no null."});
  out += value.is_bool() ? (value.as_bool() ? "true" : "false") : std::to_string(value.as_integer());
}

bool is_array_of_tables(const Value& value) {
  return value.is_array() && !value.as_array().empty() &&
         std::all_of(value.as_array().begin(), value.as_array().end(),
                     [](const Value& item) { return item.is_table(); });
}

bool is_line(const Value& value) { return !value.is_null() && !value.is_table() && !is_array_of_tables(value); }

void append_lines(std::string& out, const Value& table) {
  for (const auto& [key, value] : table.as_table()) {
    if (!is_line(value)) continue;
    append_key(out, key);
    out += " = ";
    append_inline(out, value);
    out += '\n';
  }
}

// A table that holds only tables needs no header of its own.
bool needs_header(const Value& table) {
  const auto& members = table.as_table();
  const auto is_section = [](const Value& v) { return v.is_table() || is_array_of_tables(v); };
  return std::none_of(members.begin(), members.end(), [&](const auto& m) { return is_section(m.second); }) ||
         std::any_of(members.begin(), members.end(), [](const auto& m) { return is_line(m.second); });
}

void append_header(std::string& out, std::string_view open, std::string_view path, std::string_view close) {
  if (!out.empty()) out += '\n';
  out += open;
  out += path;
  out += close;
}

void append_sections(std::string& out, const Value& table, const std::string& prefix);

void append_body(std::string& out, const Value& table, const std::string& path) {
  append_lines(out, table);
  append_sections(out, table, path + ".");
}

void append_sections(std::string& out, const Value& table, const std::string& prefix) {
  for (const auto& [key, value] : table.as_table()) {
    std::string path = prefix;
    append_key(path, key);
    if (value.is_table()) {
      if (needs_header(value)) append_header(out, "[", path, "]\n");
      append_body(out, value, path);
    } else if (is_array_of_tables(value)) {
      for (const Value& item : value.as_array()) {
        append_header(out, "[[", path, "]]\n");
        append_body(out, item, path);
      }
    }
  }
}

/// The text as one TOML value, or as the string that it is.
Value read_setting(std::string_view text) {
  try {
    Value read = parse_toml("value = " + std::string(text));
    if (read.as_table().size() == 1) return std::move(read.as_table().front().second);
  } catch (const UsageError&) {
    return Value(text);  // no TOML: bare words need no quotes on a command line
  }
  return Value(text);
}

void place(Value& value, const Origin& origin) {
  value.origin = origin;
  if (value.is_array())
    for (Value& item : value.as_array()) place(item, origin);
  if (value.is_table())
    for (auto& [key, member] : value.as_table()) place(member, origin);
}

}  // namespace

Value parse_toml(std::string_view text, std::string_view file) {
  try {
    const toml::table table = toml::parse(text, file);
    return Reader(file).table(table, {1, 1}, 0);
  } catch (const toml::parse_error& e) {
    const auto& at = e.source().begin;
    const Origin origin{std::string(file), static_cast<int>(at.line), static_cast<int>(at.column)};
    fail_usage({"config", "valid TOML", "at " + origin.to_string() + ": " + std::string(e.description()), ""});
  }
}

Value load_toml(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored))
    fail_usage({"config", "a TOML file", "no such file '" + path.string() + "'", ""});
  return parse_toml(read_file(path), path.string());
}

std::string to_toml(const Value& table) {
  std::string out;
  append_lines(out, table);
  append_sections(out, table, "");
  return out;
}

void set_path_text(Value& table, std::string_view dotted, std::string_view text) {
  Value value = read_setting(text);
  place(value, {"--set", 0, 0});
  set_path(table, dotted, std::move(value));
}

}  // namespace schatten
