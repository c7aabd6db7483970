#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/core/value.h>

#include <algorithm>
#include <numeric>

namespace schatten {

std::string Origin::to_string() const {
  if (file.empty() && line == 0) return "";
  std::string text = file.empty() ? "<text>" : file;
  if (line > 0) text += ":" + std::to_string(line) + ":" + std::to_string(column);
  return text;
}

std::string_view Value::type_name() const {
  constexpr std::string_view kNames[] = {"nothing",  "true or false", "an integer", "a real number",
                                         "a string", "an array",      "a table"};
  return kNames[data_.index()];
}

namespace {
[[noreturn]] void wrong_type(const Value& v, std::string_view expected) {
  const std::string where = v.origin.to_string();
  fail_usage({where.empty() ? "value" : where, std::string(expected), std::string(v.type_name()), ""});
}
}  // namespace

bool Value::as_bool() const {
  if (!is_bool()) wrong_type(*this, "true or false");
  return std::get<bool>(data_);
}
int64_t Value::as_integer() const {
  if (!is_integer()) wrong_type(*this, "an integer");
  return std::get<int64_t>(data_);
}
double Value::as_real() const {
  if (is_integer()) return static_cast<double>(std::get<int64_t>(data_));
  if (!is_real()) wrong_type(*this, "a number");
  return std::get<double>(data_);
}
const std::string& Value::as_string() const {
  if (!is_string()) wrong_type(*this, "a string");
  return std::get<std::string>(data_);
}
const Value::Array& Value::as_array() const {
  if (!is_array()) wrong_type(*this, "an array");
  return std::get<Array>(data_);
}
const Value::Table& Value::as_table() const {
  if (!is_table()) wrong_type(*this, "a table");
  return std::get<Table>(data_);
}
Value::Array& Value::as_array() {
  if (!is_array()) wrong_type(*this, "an array");
  return std::get<Array>(data_);
}
Value::Table& Value::as_table() {
  if (!is_table()) wrong_type(*this, "a table");
  return std::get<Table>(data_);
}

const Value* Value::find(std::string_view key) const {
  if (!is_table()) return nullptr;
  for (const auto& [name, value] : std::get<Table>(data_))
    if (name == key) return &value;
  return nullptr;
}
Value* Value::find(std::string_view key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

const Value& Value::at(std::string_view key) const {
  if (const Value* found = find(key)) return *found;
  const std::string where = origin.to_string();
  fail_usage({where.empty() ? "value" : where, "the key '" + std::string(key) + "'", "none", ""});
}

Value& Value::operator[](std::string_view key) {
  if (is_null()) data_ = Table{};
  if (Value* found = find(key)) return *found;
  return as_table().emplace_back(std::string(key), Value()).second;
}

void Value::push_back(Value v) {
  if (is_null()) data_ = Array{};
  as_array().push_back(std::move(v));
}

double Value::real_or(std::string_view key, double fallback) const {
  const Value* v = find(key);
  return v && v->is_number() ? v->as_real() : fallback;
}
int64_t Value::integer_or(std::string_view key, int64_t fallback) const {
  const Value* v = find(key);
  return v && v->is_integer() ? v->as_integer() : fallback;
}
std::string Value::string_or(std::string_view key, std::string fallback) const {
  const Value* v = find(key);
  return v && v->is_string() ? v->as_string() : std::move(fallback);
}

Value load_toml(const std::filesystem::path& path) { return parse_toml(read_file(path), path.string()); }

namespace {

/// "a.\"b c\".d" -> parts; quotes keep dots.
std::vector<std::string> split_path(std::string_view dotted) {
  std::vector<std::string> parts{""};
  bool quoted = false;
  for (const char c : dotted) {
    if (c == '"') quoted = !quoted;
    else if (c == '.' && !quoted) parts.emplace_back();
    else parts.back() += c;
  }
  if (std::any_of(parts.begin(), parts.end(), [](const auto& p) { return p.empty(); }))
    fail_usage({"--set", "a key like train.steps", "'" + std::string(dotted) + "'", ""});
  return parts;
}

}  // namespace

void set_path(Value& table, std::string_view dotted, std::string_view text) {
  Value value(text);
  try {
    const Value parsed = parse_toml("value = " + std::string(text));
    if (parsed.as_table().size() == 1) value = parsed.at("value");
  } catch (const Error&) {
    // Not TOML: a bare word is taken as the string it is.
  }
  value.origin = {.file = "--set " + std::string(dotted)};
  set_path(table, dotted, std::move(value));
}

void set_path(Value& table, std::string_view dotted, Value value) {
  Value* at = &table;
  for (const std::string& part : split_path(dotted)) {
    if (!at->is_null() && !at->is_table())
      fail_usage({"--set " + std::string(dotted), "a table above '" + part + "'", std::string(at->type_name()), ""});
    at = &(*at)[part];
  }
  *at = std::move(value);
}

const Value* find_path(const Value& table, std::string_view dotted) {
  const Value* at = &table;
  for (const std::string& part : split_path(dotted))
    if (!(at = at->find(part))) return nullptr;
  return at;
}

namespace {
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substitute = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, substitute});
    }
  }
  return row.back();
}
}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 2) + 1;
  for (const std::string& c : candidates) {
    const size_t distance = edit_distance(word, c);
    if (distance < least) least = distance, best = c;
  }
  return best;
}

void merge(Value& base, const Value& over) {
  if (!base.is_table() || !over.is_table()) {
    base = over;
    return;
  }
  for (const auto& [key, value] : over.as_table()) merge(base[key], value);
}

}  // namespace schatten
