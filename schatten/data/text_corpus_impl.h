// Bytes in three splits; what python-source and text:PATH are made of. Not public.
#pragma once
#include <schatten/data/corpus.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// Gathers files into three splits, and the id from the rules and every path, size and content.
class TextParts {
 public:
  explicit TextParts(std::string_view rules);
  /// Appended to its split, after a newline where what is there ends without one.
  void add(Split split, std::string_view path, std::string_view text);
  const std::string& text(Split split) const { return splits_[static_cast<size_t>(split)]; }
  std::shared_ptr<const Corpus> corpus(std::string name, std::vector<std::string> notes) &&;

 private:
  uint64_t hash_;
  std::array<std::string, 3> splits_;
};

/// By FNV-1a 64 of the path: of 20 equal shares one is validation, one test, the rest train.
Split split_of(std::string_view path);
/// Position of the first byte that is not UTF-8, or npos.
size_t first_invalid_utf8(std::string_view text);
/// 16 hex digits.
std::string hex(uint64_t value);

}  // namespace schatten
