#include <schatten/core/error.h>
#include <schatten/core/value.h>
#include <schatten/stages/checks.h>

#include <cmath>

namespace schatten {

namespace {
void check(bool good, std::string_view who, std::string_view key, const char* range, double value) {
  if (good) return;
  const std::string got = std::isnan(value) ? "nan" : to_json(Value(value));
  fail_usage({std::string(who), std::string(key) + " " + range, std::isinf(value) ? "inf" : got, ""});
}
}  // namespace

void check_share(std::string_view who, std::string_view key, double v) {
  check(v >= 0 && v < 1, who, key, "in [0, 1)", v);
}
void check_positive(std::string_view who, std::string_view key, double v) {
  check(std::isfinite(v) && v > 0, who, key, "finite and > 0", v);
}
void check_non_negative(std::string_view who, std::string_view key, double v) {
  check(std::isfinite(v) && v >= 0, who, key, "finite and >= 0", v);
}

}  // namespace schatten
