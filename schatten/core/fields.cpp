#include <schatten/core/fields.h>
#include <schatten/core/text.h>

#include <limits>

namespace schatten {
namespace {

std::string dotted(std::string_view owner, std::string_view key) {
  return owner.empty() ? std::string(key) : std::string(owner) + "." + std::string(key);
}

std::string where(const Value& at) {
  const std::string origin = at.origin.to_string();
  return origin.empty() ? "" : " at " + origin;
}

std::string shown(const Value& value) {
  constexpr size_t longest = 40;
  if (value.is_real()) {
    std::string text;
    append_real(text, value.as_real());
    return text;
  }
  const std::string text = value.is_table() || value.is_array() ? "" : to_json(value);
  return text.size() > longest ? "" : text;
}

std::string described(const Value& value) {
  const std::string text = shown(value);
  return std::string(value.type_name()) + (text.empty() ? "" : " (" + text + ")") + where(value);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? "none" : text;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
  const std::string close = nearest(word, known);
  return (close.empty() ? "" : "Did you mean '" + close + "'? ") + "Known: " + joined(known) + ".";
}

}  // namespace

void fail_unknown_key(const Value& at, std::string_view owner, std::string_view key,
                      const std::vector<std::string>& known) {
  fail_usage({"config", owner.empty() ? "a known key" : "a key of '" + std::string(owner) + "'",
              "the unknown key '" + dotted(owner, key) + "'" + where(at), suggestion(key, known)});
}

void fail_enum(const Value& at, std::string_view owner, std::string_view key, const std::vector<std::string>& known) {
  fail_usage({"config", "'" + dotted(owner, key) + "' to be one of its names", described(at),
              suggestion(at.is_string() ? at.as_string() : "", known)});
}

void fail_type(const Value& at, std::string_view owner, std::string_view key, std::string_view expected) {
  const std::string name = dotted(owner, key);
  fail_usage({"config", (name.empty() ? "" : "'" + name + "' to be ") + std::string(expected), described(at), ""});
}

void fail_range(const Value& at, std::string_view key, int64_t got) {
  fail_usage({"config", "'" + std::string(key) + "' to fit 32 bits", std::to_string(got) + where(at), ""});
}

void read_field(const Value& v, std::string_view owner, std::string_view key, bool& out) {
  if (!v.is_bool()) fail_type(v, owner, key, "true or false");
  out = v.as_bool();
}

void read_field(const Value& v, std::string_view owner, std::string_view key, int& out) {
  int64_t wide = 0;
  read_field(v, owner, key, wide);
  if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max())
    fail_range(v, dotted(owner, key), wide);
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
