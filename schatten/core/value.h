// One tree for TOML, JSON and command-line settings. Remembers where each value was written.
#pragma once
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace schatten {

/// Where a value was written; file empty when it was made in code.
struct Origin {
  std::string file;
  int line = 0, column = 0;
  std::string to_string() const;  // "train.toml:3:7", or "" when unknown
};

/// null, bool, integer, real, string, array, or table. Tables keep the order in which keys were added.
class Value {
 public:
  using Array = std::vector<Value>;
  using Table = std::vector<std::pair<std::string, Value>>;

  Value() = default;
  Value(bool v) : data_(v) {}                           // NOLINT: values convert freely
  Value(int v) : data_(static_cast<int64_t>(v)) {}      // NOLINT
  Value(int64_t v) : data_(v) {}                        // NOLINT
  Value(double v) : data_(v) {}                         // NOLINT
  Value(const char* v) : data_(std::string(v)) {}       // NOLINT
  Value(std::string v) : data_(std::move(v)) {}         // NOLINT
  Value(std::string_view v) : data_(std::string(v)) {}  // NOLINT
  Value(Array v) : data_(std::move(v)) {}               // NOLINT
  Value(Table v) : data_(std::move(v)) {}               // NOLINT
  static Value array() { return Value(Array{}); }
  static Value table() { return Value(Table{}); }

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }
  bool is_real() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_integer() || is_real(); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_array() const { return std::holds_alternative<Array>(data_); }
  bool is_table() const { return std::holds_alternative<Table>(data_); }
  std::string_view type_name() const;  // "a string", "a table", ...: for messages

  // Each throws a UsageError that names the origin when the type is another. as_real takes integers.
  bool as_bool() const;
  int64_t as_integer() const;
  double as_real() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Table& as_table() const;
  Array& as_array();
  Table& as_table();

  /// Member of a table, or nullptr. Never throws.
  const Value* find(std::string_view key) const;
  Value* find(std::string_view key);
  /// Member of a table; throws when absent.
  const Value& at(std::string_view key) const;
  /// Member of a table, added when absent (a null value becomes a table).
  Value& operator[](std::string_view key);
  void push_back(Value v);
  /// Convenience for readers of records: the number/string there, or the fallback.
  double real_or(std::string_view key, double fallback) const;
  int64_t integer_or(std::string_view key, int64_t fallback) const;
  std::string string_or(std::string_view key, const std::string& fallback) const;

  /// By content: the order of keys in tables and the origins do not matter.
  bool operator==(const Value& other) const;

  Origin origin{};

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Table> data_;
};

Value parse_toml(std::string_view text, std::string_view file = "");
Value parse_json(std::string_view text, std::string_view file = "");
Value load_toml(const std::filesystem::path& path);
std::string to_toml(const Value& table);
/// One line. Non-finite numbers become null, and their keys are listed under "nonfinite" of their table.
std::string to_json(const Value& value);
std::string to_pretty_json(const Value& value);

/// Sets `a.b.c` inside `table`; the text is read as a TOML value, else taken as a string.
void set_path_text(Value& table, std::string_view dotted, std::string_view text);
void set_path(Value& table, std::string_view dotted, Value value);
/// Text of any kind is read, as above.
void set_path(Value& table, std::string_view dotted, const std::convertible_to<std::string_view> auto& text) {
  set_path_text(table, dotted, text);
}
const Value* find_path(const Value& table, std::string_view dotted);

/// The candidate nearest to `word` by edit distance, or "" when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// A table without some of its keys; its origin stays.
Value without(const Value& table, std::initializer_list<std::string_view> keys);

/// The same value with the keys of every table in alphabetical order.
Value sorted(const Value& value);

/// Deep merge: tables merge key by key, everything else is replaced.
void merge(Value& base, const Value& over);

}  // namespace schatten
