#include <schatten/core/error.h>
#include <schatten/core/rng.h>
#include <schatten/data/text_corpus_impl.h>

#include <algorithm>
#include <cstdio>

namespace schatten {

void ByteView::copy(int64_t from, int64_t count, int64_t* out) const {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<unsigned char>(bytes_[static_cast<size_t>(from + i)]);
}

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

TextCorpus::TextCorpus(std::string name, std::string rules, std::array<std::string, 3> splits,
                       std::vector<std::string> notes)
    : name_(std::move(name)), notes_(std::move(notes)) {
  uint64_t hash = fnv1a(rules);
  for (const std::string& s : splits) hash = mix(mix(hash, fnv1a(s)), s.size());
  id_ = hex(hash);
  for (size_t i = 0; i < 3; ++i) splits_[i] = ByteView(std::move(splits[i]));
}

std::string TextCorpus::decode(const std::vector<int64_t>& tokens) const {
  std::string text;
  for (const int64_t t : tokens) text += static_cast<char>(static_cast<unsigned char>(t));
  return text;
}

std::vector<int64_t> TextCorpus::encode(std::string_view text) const {
  std::vector<int64_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::string_view to_string(Split split) {
  constexpr std::string_view kNames[] = {"train", "validation", "test"};
  return kNames[static_cast<size_t>(split)];
}

Split split_of(std::string_view relative_path) {
  const uint64_t share = fnv1a(relative_path) % 20;
  return share == 0 ? Split::validation : share == 1 ? Split::test : Split::train;
}

namespace {

/// Length of the sequence at `at`, 0 when it is not UTF-8.
size_t sequence_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned b = byte(0);
  if (b < 0x80) return 1;
  if (b >= 0xC2 && b < 0xE0) return follows(1) ? 2 : 0;
  if (b >= 0xE0 && b < 0xF0) {
    const bool overlong = b == 0xE0 && byte(1) < 0xA0, surrogate = b == 0xED && byte(1) >= 0xA0;
    return follows(1) && follows(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (b >= 0xF0 && b < 0xF5) {
    const bool overlong = b == 0xF0 && byte(1) < 0x90, beyond = b == 0xF4 && byte(1) >= 0x90;
    return follows(1) && follows(2) && follows(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

}  // namespace

size_t first_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence_length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

}  // namespace schatten
