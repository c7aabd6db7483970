// Bytes in three splits; what python-source and text:PATH are made of. Not public.
#pragma once
#include <schatten/data/corpus.h>

#include <array>
#include <string>
#include <vector>

namespace schatten {

/// Tokens are bytes.
class ByteView final : public TokenView {
 public:
  explicit ByteView(std::string bytes = {}) : bytes_(std::move(bytes)) {}
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  void copy(int64_t from, int64_t count, int64_t* out) const override;
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class TextCorpus final : public Corpus {
 public:
  TextCorpus(std::string name, std::string rules, std::array<std::string, 3> splits, std::vector<std::string> notes);
  std::string name() const override { return name_; }
  std::string id() const override { return id_; }
  int64_t vocab() const override { return 256; }
  double bytes_per_token() const override { return 1; }
  const TokenView& tokens(Split split) const override { return splits_[static_cast<size_t>(split)]; }
  std::string decode(const std::vector<int64_t>& tokens) const override;
  std::vector<int64_t> encode(std::string_view text) const override;
  std::vector<std::string> notes() const override { return notes_; }

 private:
  std::string name_, id_;
  std::array<ByteView, 3> splits_;
  std::vector<std::string> notes_;
};

/// By hash of the name: of 20 equal shares one is validation, one test, the rest train.
Split split_of(std::string_view relative_path);
/// Position of the first byte that is not UTF-8, or npos.
size_t first_invalid_utf8(std::string_view text);
/// 16 hex digits.
std::string hex(uint64_t value);

std::shared_ptr<const Corpus> open_python_source(const std::filesystem::path& torch_folder);
std::shared_ptr<const Corpus> open_text(const std::string& pattern);
std::shared_ptr<const Corpus> open_token_shards(const std::string& pattern, int64_t vocab_limit);

/// Files that a path, a folder (all files below it) or a glob (*, ?, ** in file names) means, sorted.
std::vector<std::filesystem::path> list_files(const std::string& pattern);

}  // namespace schatten
