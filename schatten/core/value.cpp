#include <schatten/core/error.h>
#include <schatten/core/text.h>
#include <schatten/core/value.h>

#include <algorithm>
#include <charconv>

namespace schatten {
namespace {

[[noreturn]] void fail_kind(const Value& value, std::string_view expected) {
  std::string got(value.type_name());
  if (const std::string where = value.origin.to_string(); !where.empty()) got += " at " + where;
  fail_usage({"value", std::string(expected), got, ""});
}

std::vector<std::string> keys_of(const Value::Table& table) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : table) keys.push_back(key);
  return keys;
}

bool same_table(const Value::Table& a, const Value& b) {
  return std::all_of(a.begin(), a.end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && *other == entry.second;
  });
}

std::vector<std::string_view> split(std::string_view dotted) {
  std::vector<std::string_view> parts;
  for (size_t start = 0; start <= dotted.size();) {
    const size_t end = std::min(dotted.find('.', start), dotted.size());
    parts.push_back(dotted.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

/// Item of an array by its number as text, or nullptr.
const Value* find_item(const Value& array, std::string_view number) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
  if (error != std::errc{} || end != number.data() + number.size()) return nullptr;
  return index < array.as_array().size() ? &array.as_array()[index] : nullptr;
}

const Value* find_part(const Value& in, std::string_view part) {
  return in.is_array() ? find_item(in, part) : in.find(part);
}

Value& enter(Value& in, std::string_view part, std::string_view dotted) {
  if (in.is_array()) {
    if (const Value* item = find_item(in, part)) return const_cast<Value&>(*item);
    fail_usage({"set " + std::string(dotted), "a number below " + std::to_string(in.as_array().size()),
                "'" + std::string(part) + "'", "Items of arrays are counted from 0."});
  }
  if (!in.is_null() && !in.is_table())
    fail_usage({"set " + std::string(dotted), "a table that holds '" + std::string(part) + "'",
                std::string(in.type_name()), ""});
  return in[part];
}

/// Edit distance in which swapping two neighbours costs one.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

}  // namespace

std::string Origin::to_string() const {
  if (line <= 0) return file;
  return (file.empty() ? "<text>" : file) + ":" + std::to_string(line) + ":" + std::to_string(column);
}

std::string_view Value::type_name() const {
  constexpr std::string_view names[] = {"nothing",  "a boolean", "an integer", "a real number",
                                        "a string", "an array",  "a table"};
  return names[data_.index()];
}

bool Value::as_bool() const {
  if (!is_bool()) fail_kind(*this, "a boolean");
  return std::get<bool>(data_);
}
int64_t Value::as_integer() const {
  if (!is_integer()) fail_kind(*this, "an integer");
  return std::get<int64_t>(data_);
}
double Value::as_real() const {
  if (is_integer()) return static_cast<double>(std::get<int64_t>(data_));
  if (!is_real()) fail_kind(*this, "a number");
  return std::get<double>(data_);
}
const std::string& Value::as_string() const {
  if (!is_string()) fail_kind(*this, "a string");
  return std::get<std::string>(data_);
}
const Value::Array& Value::as_array() const {
  if (!is_array()) fail_kind(*this, "an array");
  return std::get<Array>(data_);
}
const Value::Table& Value::as_table() const {
  if (!is_table()) fail_kind(*this, "a table");
  return std::get<Table>(data_);
}
Value::Array& Value::as_array() { return const_cast<Array&>(std::as_const(*this).as_array()); }
Value::Table& Value::as_table() { return const_cast<Table&>(std::as_const(*this).as_table()); }

const Value* Value::find(std::string_view key) const {
  if (!is_table()) return nullptr;
  for (const auto& [name, value] : std::get<Table>(data_)) {
    if (name == key) return &value;
  }
  return nullptr;
}
Value* Value::find(std::string_view key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

const Value& Value::at(std::string_view key) const {
  if (const Value* value = find(key)) return *value;
  const std::string close = nearest(key, keys_of(as_table()));
  const std::string where = origin.to_string();
  fail_usage({"value", "the key '" + std::string(key) + "'",
              "a table without it" + (where.empty() ? "" : " at " + where),
              close.empty() ? "" : "There is '" + close + "'."});
}

Value& Value::operator[](std::string_view key) {
  if (is_null()) data_ = Table{};
  if (Value* value = find(key)) return *value;
  return as_table().emplace_back(std::string(key), Value()).second;
}

void Value::push_back(Value v) {
  if (is_null()) data_ = Array{};
  as_array().push_back(std::move(v));
}

double Value::real_or(std::string_view key, double fallback) const {
  const Value* value = find(key);
  return value != nullptr && value->is_number() ? value->as_real() : fallback;
}
int64_t Value::integer_or(std::string_view key, int64_t fallback) const {
  const Value* value = find(key);
  return value != nullptr && value->is_integer() ? value->as_integer() : fallback;
}
std::string Value::string_or(std::string_view key, const std::string& fallback) const {
  const Value* value = find(key);
  return value != nullptr && value->is_string() ? value->as_string() : fallback;
}

bool Value::operator==(const Value& other) const {
  if (!is_table() || !other.is_table()) return data_ == other.data_;
  return as_table().size() == other.as_table().size() && same_table(as_table(), other);
}

Value without(const Value& table, std::initializer_list<std::string_view> keys) {
  Value rest = Value::table();
  rest.origin = table.origin;
  for (const auto& [key, value] : table.as_table())
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) rest[key] = value;
  return rest;
}

Value sorted(const Value& value) {
  if (value.is_array()) {
    Value list = Value::array();
    for (const Value& item : value.as_array()) list.push_back(sorted(item));
    return list;
  }
  if (!value.is_table()) return value;
  Value::Table rows = value.as_table();
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [key, member] : rows) member = sorted(member);
  return rows;
}

void set_path(Value& table, std::string_view dotted, Value value) {
  Value* at = &table;
  for (const std::string_view part : split(dotted)) {
    if (part.empty()) fail_usage({"set", "a path such as 'optimizer.lr'", "'" + std::string(dotted) + "'", ""});
    at = &enter(*at, part, dotted);
  }
  *at = std::move(value);
}

const Value* find_path(const Value& table, std::string_view dotted) {
  const Value* at = &table;
  for (const std::string_view part : split(dotted)) {
    at = find_part(*at, part);
    if (at == nullptr) return nullptr;
  }
  return at;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t longest = 256;  // the work is quadratic
  if (word.size() > longest) return "";
  size_t best = word.size() / 4 + 2;
  std::string found;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > longest || candidate.size() + best <= word.size()) continue;
    const size_t d = distance(word, candidate);
    if (d < best && d < std::max(word.size(), candidate.size())) {
      best = d;
      found = candidate;
    }
  }
  return found;
}

void merge(Value& base, const Value& over) {
  if (!base.is_table() || !over.is_table()) {
    base = over;
    return;
  }
  for (const auto& [key, value] : over.as_table()) {
    Value& below = base[key];
    merge(below, value);
  }
}

}  // namespace schatten
