// One field list per options struct gives defaults, reading, printing, help and equality:
//
//   struct MuonOptions {
//     double momentum = 0.95;
//     bool nesterov = true;
//     void fields(auto&& visit) {
//       visit("momentum", momentum, "decay of the momentum buffer");
//       visit("nesterov", nesterov, "look one step ahead");
//     }
//   };
//
// Members may be bool, int, int64_t, double, std::string, an enum with `enum_names(E)`, another
// struct with fields, std::vector of these, or Value (taken as it is).
#pragma once
#include <schatten/core/error.h>
#include <schatten/core/value.h>

#include <algorithm>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace schatten {

namespace fields_detail {
struct AnyVisitor {
  void operator()(std::string_view, auto&, std::string_view) {}
};
}  // namespace fields_detail

template <class T>
concept HasFields = requires(T& t, fields_detail::AnyVisitor v) { t.fields(v); };

/// Enums take part when this overload is found beside them:
///   constexpr auto enum_names(MyEnum) { return std::to_array<std::string_view>({"a", "b"}); }
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) { enum_names(e).size(); };

template <NamedEnum E>
std::string_view enum_name(E e) {
  return enum_names(e)[static_cast<size_t>(e)];
}

[[noreturn]] void fail_unknown_key(const Value& at, std::string_view owner, std::string_view key,
                                   const std::vector<std::string>& known);
[[noreturn]] void fail_enum(const Value& at, std::string_view owner, std::string_view key,
                            const std::vector<std::string>& known);
[[noreturn]] void fail_type(const Value& at, std::string_view owner, std::string_view key, std::string_view expected);
[[noreturn]] void fail_range(const Value& at, std::string_view key, int64_t got);

void read_field(const Value& v, std::string_view owner, std::string_view key, bool& out);
void read_field(const Value& v, std::string_view owner, std::string_view key, int& out);
void read_field(const Value& v, std::string_view owner, std::string_view key, int64_t& out);
void read_field(const Value& v, std::string_view owner, std::string_view key, double& out);
void read_field(const Value& v, std::string_view owner, std::string_view key, std::string& out);
inline void read_field(const Value& v, std::string_view, std::string_view, Value& out) { out = v; }

template <NamedEnum E>
void read_field(const Value& v, std::string_view owner, std::string_view key, E& out) {
  const auto names = enum_names(E{});
  if (v.is_string()) {
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] == v.as_string()) {
        out = static_cast<E>(i);
        return;
      }
    }
  }
  fail_enum(v, owner, key, {names.begin(), names.end()});
}

template <HasFields T>
void read_fields(const Value& table, T& out, std::string_view owner);

template <HasFields T>
void read_field(const Value& v, std::string_view owner, std::string_view key, T& out) {
  read_fields(v, out, owner.empty() ? std::string(key) : std::string(owner) + "." + std::string(key));
}

template <class T>
void read_field(const Value& v, std::string_view owner, std::string_view key, std::vector<T>& out) {
  if (!v.is_array()) fail_type(v, owner, key, "an array");
  out.clear();
  for (const Value& item : v.as_array()) {
    T element{};
    read_field(item, owner, key, element);
    out.push_back(std::move(element));
  }
}

template <HasFields T>
std::vector<std::string> field_names(const T& of = T{}) {
  std::vector<std::string> names;
  T copy = of;
  copy.fields([&](std::string_view key, auto&, std::string_view) { names.emplace_back(key); });
  return names;
}

/// Fills `out` from a table; keys that are absent keep their defaults, unknown keys are an error
/// that names the nearest known one. `owner` is the section's name for messages.
template <HasFields T>
void read_fields(const Value& table, T& out, std::string_view owner) {
  if (!table.is_table()) fail_type(table, "", owner, "a table");
  const auto known = field_names(out);
  for (const auto& [key, value] : table.as_table()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) fail_unknown_key(value, owner, key, known);
  }
  out.fields([&](std::string_view key, auto& member, std::string_view) {
    if (const Value* v = table.find(key)) read_field(*v, owner, key, member);
  });
}

template <class T>
Value field_value(const T& v) {
  if constexpr (NamedEnum<T>) {
    return Value(enum_name(v));
  } else if constexpr (HasFields<T>) {
    Value table = Value::table();
    T copy = v;
    copy.fields([&](std::string_view key, auto& member, std::string_view) { table[key] = field_value(member); });
    return table;
  } else if constexpr (requires {
                         v.begin();
                         typename T::value_type;
                       } && !std::same_as<T, std::string>) {
    Value array = Value::array();
    for (const auto& item : v) array.push_back(field_value(item));
    return array;
  } else {
    return Value(v);
  }
}

/// Every field with its value, nested: what `config.toml` is written from, and what equality compares.
template <HasFields T>
Value write_fields(const T& of) {
  return field_value(of);
}

/// {<kind> = name, option = ...}: how stages and controllers print themselves; their makers read it back.
template <HasFields T>
Value tagged_fields(std::string_view kind, std::string_view name, const T& options) {
  Value table = Value::table();
  table[kind] = Value(name);
  const Value fields = write_fields(options);
  for (const auto& [key, value] : fields.as_table()) table[key] = value;
  return table;
}

/// name, default as text, help: for --help and the docs.
struct FieldHelp {
  std::string name, value, help;
};
template <HasFields T>
std::vector<FieldHelp> field_help(const T& of = T{}) {
  std::vector<FieldHelp> rows;
  T copy = of;
  copy.fields([&](std::string_view key, auto& member, std::string_view help) {
    const Value v = field_value(member);
    rows.push_back({std::string(key), v.is_table() ? std::string("{...}") : to_json(v), std::string(help)});
  });
  return rows;
}

/// The same for every key, nested ones under their dotted names.
template <HasFields T>
std::vector<FieldHelp> dotted_field_help(const T& of = T{}, const std::string& prefix = "") {
  std::vector<FieldHelp> rows;
  T copy = of;
  copy.fields([&]<class Member>(std::string_view key, Member& member, std::string_view help) {
    const std::string name = prefix + std::string(key);
    if constexpr (HasFields<Member>) {
      for (FieldHelp& row : dotted_field_help(member, name + ".")) rows.push_back(std::move(row));
    } else {
      rows.push_back({name, to_json(field_value(member)), std::string(help)});
    }
  });
  return rows;
}

}  // namespace schatten
