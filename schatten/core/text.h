// Spelling shared by the TOML and JSON writers.
#pragma once
#include <string>
#include <string_view>

namespace schatten {

/// In double quotes, escaped so that both TOML and JSON read it back; bytes that are no UTF-8
/// become U+FFFD.
void append_quoted(std::string& out, std::string_view text);

/// Shortest decimal that reads back to the same bits, always with a point or an exponent.
void append_real(std::string& out, double value);

}  // namespace schatten
