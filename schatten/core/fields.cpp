#include <schatten/core/fields.h>

#include <limits>

namespace schatten {

namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}

std::string full(std::string_view owner, std::string_view key) {
  return owner.empty() ? std::string(key) : std::string(owner) + "." + std::string(key);
}

/// "train.toml:3:7" when known, else the section.
std::string who(const Value& at, std::string_view otherwise) {
  const std::string origin = at.origin.to_string();
  return origin.empty() ? std::string(otherwise.empty() ? "config" : otherwise) : origin;
}

std::string hint(std::string_view word, const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  return (near.empty() ? "" : "Did you mean '" + near + "'? ") + "Known: " + joined(known) + ".";
}

}  // namespace

void fail_unknown_key(const Value& at, std::string_view owner, std::string_view key,
                      const std::vector<std::string>& known) {
  fail_usage({who(at, owner), "a key of " + (owner.empty() ? "the config" : "'" + std::string(owner) + "'"),
              "unknown key '" + full(owner, key) + "'", hint(key, known)});
}

void fail_enum(const Value& at, std::string_view owner, std::string_view key, const std::vector<std::string>& known) {
  const std::string got = at.is_string() ? "'" + at.as_string() + "'" : std::string(at.type_name());
  fail_usage({who(at, owner), full(owner, key) + " to be one of its names", got,
              at.is_string() ? hint(at.as_string(), known) : "Known: " + joined(known) + "."});
}

void fail_type(const Value& at, std::string_view owner, std::string_view key, std::string_view expected) {
  fail_usage({who(at, owner), full(owner, key) + " to be " + std::string(expected),
              std::string(at.type_name()) + (at.is_table() || at.is_null() ? "" : " (" + to_json(at) + ")"), ""});
}

void fail_range(const Value& at, std::string_view key, int64_t got) {
  fail_usage({who(at, key), std::string(key) + " to fit 32 bits", std::to_string(got), ""});
}

void read_field(const Value& v, std::string_view owner, std::string_view key, bool& out) {
  if (!v.is_bool()) fail_type(v, owner, key, "true or false");
  out = v.as_bool();
}
void read_field(const Value& v, std::string_view owner, std::string_view key, int& out) {
  int64_t wide = 0;
  read_field(v, owner, key, wide);
  if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max()) fail_range(v, key, wide);
  out = static_cast<int>(wide);
}
void read_field(const Value& v, std::string_view owner, std::string_view key, int64_t& out) {
  if (!v.is_integer()) fail_type(v, owner, key, "an integer");
  out = v.as_integer();
}
void read_field(const Value& v, std::string_view owner, std::string_view key, double& out) {
  if (!v.is_number()) fail_type(v, owner, key, "a number");
  out = v.as_real();
}
void read_field(const Value& v, std::string_view owner, std::string_view key, std::string& out) {
  if (!v.is_string()) fail_type(v, owner, key, "a string");
  out = v.as_string();
}

}  // namespace schatten
