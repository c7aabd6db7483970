// Spelling shared by readers and writers: UTF-8, quoted strings, numbers.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace schatten {

/// Bytes of the UTF-8 character that `text` starts with; 0 when it starts with none (Unicode 15, table 3-7).
size_t utf8_length(std::string_view text);
/// Every byte that is no UTF-8 replaced by U+FFFD: what may be shown to people and parsers.
std::string valid_utf8(std::string_view text);

/// In double quotes, escaped so that both TOML and JSON read it back; bytes that are no UTF-8
/// become U+FFFD.
void append_quoted(std::string& out, std::string_view text);

/// Shortest decimal that reads back to the same bits, always with a point or an exponent.
void append_real(std::string& out, double value);

}  // namespace schatten
