#include <schatten/core/error.h>
#include <schatten/core/text.h>
#include <schatten/core/value.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace schatten {
namespace {

constexpr size_t max_depth = 64;

Origin position(std::string_view text, std::string_view file, size_t byte) {
  const std::string_view before = text.substr(0, byte == 0 ? 0 : byte - 1);
  const size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return {std::string(file), static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1,
          static_cast<int>(before.size() - line_start) + 1};
}

[[noreturn]] void fail_json(const std::string& where, std::string got) {
  constexpr size_t longest = 200;  // the parser quotes what it read, which may be megabytes
  if (got.size() > longest) got = got.substr(0, longest) + "...";
  fail({"JSON", "valid JSON", (where.empty() ? "" : "at " + where + ": ") + got, ""});
}

/// Builds the tree from the parser's events: no recursion, so that depth costs no stack.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  bool null() override { return add(Value()); }
  bool boolean(bool v) override { return add(Value(v)); }
  bool number_integer(int64_t v) override { return add(Value(v)); }
  bool number_unsigned(uint64_t v) override {
    const bool fits = v <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    return add(fits ? Value(static_cast<int64_t>(v)) : Value(static_cast<double>(v)));
  }
  bool number_float(double v, const std::string&) override { return add(Value(v)); }
  bool string(std::string& v) override { return add(Value(std::move(v))); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(Value::table()); }
  bool start_array(size_t) override { return open(Value::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = levels_.back();
    if (!level.names.insert(name).second) fail_json(file_, "the key '" + name + "' twice in one table");
    level.key = std::move(name);
    return true;
  }

  bool parse_error(size_t byte, const std::string&, const nlohmann::json::exception& e) override {
    std::string what = e.what();
    if (const size_t colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    fail_json(position(text_, file_, byte).to_string(), what);
  }

  Value take() { return std::move(root_); }

 private:
  struct Level {
    Value value;
    std::string key{};
    std::unordered_set<std::string> names{};
  };

  bool open(Value empty) {
    if (levels_.size() >= max_depth) fail_json(file_, "more than " + std::to_string(max_depth) + " nested levels");
    levels_.push_back({std::move(empty)});
    return true;
  }
  bool close() {
    Value done = std::move(levels_.back().value);
    levels_.pop_back();
    return add(std::move(done));
  }
  bool add(Value v) {
    v.origin.file = file_;
    if (levels_.empty()) {
      root_ = std::move(v);
    } else if (Level& level = levels_.back(); level.value.is_array()) {
      level.value.push_back(std::move(v));
    } else {
      level.value.as_table().emplace_back(std::move(level.key), std::move(v));
    }
    return true;
  }

  std::string_view text_;
  std::string file_;
  std::vector<Level> levels_{};
  Value root_{};
};

bool has_nonfinite(const Value& value) {
  if (value.is_real()) return !std::isfinite(value.as_real());
  if (!value.is_array()) return false;
  return std::any_of(value.as_array().begin(), value.as_array().end(), has_nonfinite);
}

bool is_flat(const Value& array) {
  const auto& items = array.as_array();
  return std::none_of(items.begin(), items.end(), [](const Value& v) { return v.is_array() || v.is_table(); });
}

class Writer {
 public:
  explicit Writer(bool pretty) : pretty_(pretty) {}

  void append(const Value& value) {
    if (value.is_table()) return append_table(value);
    if (value.is_array()) return append_array(value);
    if (value.is_string()) return append_quoted(out_, value.as_string());
    if (value.is_bool()) {
      out_ += value.as_bool() ? "true" : "false";
    } else if (value.is_integer()) {
      out_ += std::to_string(value.as_integer());
    } else if (value.is_real() && std::isfinite(value.as_real())) {
      append_real(out_, value.as_real());
    } else {
      out_ += "null";
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void append_table(const Value& table) {
    const auto& members = table.as_table();
    Value::Array nonfinite;
    out_ += '{';
    ++depth_;
    for (size_t i = 0; i < members.size(); ++i) {
      append_member(members[i].first, members[i].second, i == 0);
      if (has_nonfinite(members[i].second)) nonfinite.emplace_back(members[i].first);
    }
    if (!nonfinite.empty() && table.find("nonfinite") == nullptr)
      append_member("nonfinite", Value(std::move(nonfinite)), false);
    --depth_;
    if (!members.empty()) new_line();
    out_ += '}';
  }

  void append_member(std::string_view key, const Value& value, bool first) {
    if (!first) out_ += ',';
    new_line();
    append_quoted(out_, key);
    out_ += pretty_ ? ": " : ":";
    append(value);
  }

  void append_array(const Value& array) {
    const bool lines = pretty_ && !is_flat(array);
    out_ += '[';
    ++depth_;
    std::string_view comma = "";
    for (const Value& item : array.as_array()) {
      out_ += comma;
      if (lines) new_line();
      append(item);
      comma = pretty_ && !lines ? ", " : ",";
    }
    --depth_;
    if (lines) new_line();
    out_ += ']';
  }

  void new_line() {
    if (!pretty_) return;
    out_ += '\n';
    out_.append(depth_ * 2, ' ');
  }

  bool pretty_;
  size_t depth_ = 0;
  std::string out_{};
};

}  // namespace

Value parse_json(std::string_view text, std::string_view file) {
  // The parser takes a NUL for the end of the text.
  if (text.find('\0') != std::string_view::npos) fail_json(std::string(file), "a NUL byte");
  Builder builder(text, file);
  nlohmann::json::sax_parse(text, &builder);
  return builder.take();
}

std::string to_json(const Value& value) {
  Writer writer(false);
  writer.append(value);
  return writer.take();
}

std::string to_pretty_json(const Value& value) {
  Writer writer(true);
  writer.append(value);
  return writer.take() + "\n";
}

}  // namespace schatten
