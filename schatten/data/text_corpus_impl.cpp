#include <schatten/core/rng.h>
#include <schatten/core/text.h>
#include <schatten/data/text_corpus_impl.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace schatten {

namespace {

/// Tokens are bytes.
class ByteView final : public TokenView {
 public:
  explicit ByteView(std::string bytes) : bytes_(std::move(bytes)) {}
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  void copy(int64_t from, int64_t count, int64_t* out) const override {
    const auto* first = reinterpret_cast<const unsigned char*>(bytes_.data()) + from;
    std::copy_n(first, count, out);
  }

 private:
  std::string bytes_;
};

class TextCorpus final : public Corpus {
 public:
  TextCorpus(std::string name, std::string id, std::array<ByteView, 3> splits, std::vector<std::string> notes)
      : name_(std::move(name)), id_(std::move(id)), splits_(std::move(splits)), notes_(std::move(notes)) {}
  std::string name() const override { return name_; }
  std::string id() const override { return id_; }
  int64_t vocab() const override { return 256; }
  double bytes_per_token() const override { return 1; }
  const TokenView& tokens(Split split) const override { return splits_[static_cast<size_t>(split)]; }
  std::string decode(const std::vector<int64_t>& tokens) const override {
    std::string text;
    for (const int64_t t : tokens) text += static_cast<char>(static_cast<unsigned char>(t));
    return valid_utf8(text);  // a sample may end, or go wrong, inside a character
  }
  std::vector<int64_t> encode(std::string_view text) const override {
    std::vector<int64_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  std::string name_, id_;
  std::array<ByteView, 3> splits_;
  std::vector<std::string> notes_;
};

/// Most text is ASCII: eight bytes at a time.
bool eight_ascii(std::string_view text, size_t at) {
  uint64_t word;
  if (text.size() - at < sizeof word) return false;
  std::memcpy(&word, text.data() + at, sizeof word);
  return (word & 0x8080808080808080u) == 0;
}

}  // namespace

TextParts::TextParts(std::string_view rules) : hash_(fnv1a(rules)) {}

void TextParts::add(Split split, std::string_view path, std::string_view text) {
  hash_ = mix(mix(mix(hash_, fnv1a(path)), text.size()), fnv1a(text));
  std::string& to = splits_[static_cast<size_t>(split)];
  if (!to.empty() && to.back() != '\n' && !text.empty()) to += '\n';
  to += text;
}

std::shared_ptr<const Corpus> TextParts::corpus(std::string name, std::vector<std::string> notes) && {
  auto& [train, validation, test] = splits_;
  std::array<ByteView, 3> views{ByteView(std::move(train)), ByteView(std::move(validation)), ByteView(std::move(test))};
  return std::make_shared<TextCorpus>(std::move(name), hex(hash_), std::move(views), std::move(notes));
}

Split split_of(std::string_view path) {
  const uint64_t share = fnv1a(path) % 20;
  return share == 0 ? Split::validation : share == 1 ? Split::test : Split::train;
}

size_t first_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = eight_ascii(text, at) ? 8 : utf8_length(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace schatten
