#include <schatten/core/error.h>
#include <schatten/core/value.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace schatten {

namespace {

constexpr int kDeepest = 64;  // hostile input must not exhaust the stack

/// Builds a Value from parse events, so that duplicate keys and depth are seen.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(std::string file) : file_(std::move(file)) {}
  Value take() { return std::move(root_); }

  bool null() override { return add(Value()); }
  bool boolean(bool v) override { return add(Value(v)); }
  bool number_integer(int64_t v) override { return add(Value(v)); }
  bool number_unsigned(uint64_t v) override {
    if (v <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return add(Value(static_cast<int64_t>(v)));
    return add(Value(static_cast<double>(v)));
  }
  bool number_float(double v, const std::string&) override { return add(Value(v)); }
  bool string(std::string& v) override { return add(Value(std::move(v))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Value::table()); }
  bool start_array(size_t) override { return open(Value::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (open_.back().find(name)) trouble("each key once", "'" + name + "' twice");
    keys_.back() = name;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    what.resize(std::min<size_t>(what.size(), 160));
    trouble("JSON", "at byte " + std::to_string(position) + ": " + what);
  }

 private:
  [[noreturn]] void trouble(const std::string& expected, const std::string& got) {
    fail({file_.empty() ? "json" : file_, expected, got, ""});
  }
  bool open(Value v) {
    if (static_cast<int>(open_.size()) >= kDeepest)
      trouble("at most " + std::to_string(kDeepest) + " nested levels", "more");
    open_.push_back(std::move(v));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    Value v = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return add(std::move(v));
  }
  bool add(Value v) {
    if (open_.empty()) root_ = std::move(v);
    else if (open_.back().is_array()) open_.back().push_back(std::move(v));
    else open_.back().as_table().emplace_back(keys_.back(), std::move(v));
    return true;
  }
  std::string file_;
  Value root_;
  std::vector<Value> open_;
  std::vector<std::string> keys_;
};

std::string real_text(double v) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
  std::string text(buffer, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string string_text(const std::string& s) {
  return nlohmann::json(s).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool is_nonfinite(const Value& v) { return v.is_real() && !std::isfinite(v.as_real()); }

/// `indent` < 0: one line.
void write(const Value& v, int indent, int level, std::string& out) {
  const auto line = [&](int depth) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent * depth), ' ');
  };
  if (v.is_null() || is_nonfinite(v)) out += "null";
  else if (v.is_bool()) out += v.as_bool() ? "true" : "false";
  else if (v.is_integer()) out += std::to_string(v.as_integer());
  else if (v.is_real()) out += real_text(v.as_real());
  else if (v.is_string()) out += string_text(v.as_string());
  else if (v.is_array()) {
    out += "[";
    bool first = true;
    for (const Value& item : v.as_array()) {
      if (!first) out += ",";
      first = false;
      line(level + 1);
      write(item, indent, level + 1, out);
    }
    if (!first) line(level);
    out += "]";
  } else {
    Value::Array nonfinite;
    out += "{";
    bool first = true;
    const auto member = [&](const std::string& key, const Value& value) {
      if (!first) out += ",";
      first = false;
      line(level + 1);
      out += string_text(key) + (indent < 0 ? ":" : ": ");
      write(value, indent, level + 1, out);
    };
    for (const auto& [key, value] : v.as_table()) {
      if (is_nonfinite(value)) nonfinite.emplace_back(key);
      member(key, value);
    }
    if (!nonfinite.empty()) member("nonfinite", Value(nonfinite));
    if (!first) line(level);
    out += "}";
  }
}

}  // namespace

Value parse_json(std::string_view text, std::string_view file) {
  Builder builder{std::string(file)};
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string to_json(const Value& value) {
  std::string out;
  write(value, -1, 0, out);
  return out;
}
std::string to_pretty_json(const Value& value) {
  std::string out;
  write(value, 2, 0, out);
  return out;
}

}  // namespace schatten
