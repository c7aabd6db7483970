// Where tokens come from. A corpus is three splits of tokens; it knows nothing of models.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

enum class Split { train, validation, test };
std::string_view to_string(Split split);

/// [data] of a config.
struct DataOptions {
  std::string source = "python-source";
  int64_t batch = 16;        // sequences per optimizer step (before accumulation splits it)
  int64_t eval_batches = 8;  // fixed held-out batches
  void fields(auto&& visit) {
    visit("source", source, "python-source, text:PATH (file, folder or glob), tokens:GLOB (.bin shards)");
    visit("batch", batch, "sequences per forward pass");
    visit("eval_batches", eval_batches, "fixed held-out batches per evaluation");
  }
};

/// A read-only run of tokens: bytes or uint16, in memory or memory-mapped.
class TokenView {
 public:
  virtual ~TokenView() = default;
  virtual int64_t size() const = 0;
  /// Writes tokens [from, from + count) as int64; the caller keeps within size().
  virtual void copy(int64_t from, int64_t count, int64_t* out) const = 0;
};

class Corpus {
 public:
  virtual ~Corpus() = default;
  virtual std::string name() const = 0;  // the source string
  /// Hash of the rules and of paths, sizes and content (of large shards: of samples of it). Equal
  /// ids promise equal tokens.
  virtual std::string id() const = 0;
  virtual int64_t vocab() const = 0;           // 256 for bytes
  virtual double bytes_per_token() const = 0;  // 1 for bytes; 0: unknown, no bits per byte
  virtual const TokenView& tokens(Split split) const = 0;
  /// Text of tokens (bytes); "" when there is no tokenizer.
  virtual std::string decode(const std::vector<int64_t>& tokens) const = 0;
  virtual std::vector<int64_t> encode(std::string_view text) const = 0;
  virtual std::vector<std::string> notes() const { return {}; }  // things a user should know
};

/// Opens `python-source`, `text:PATH` or `tokens:GLOB`. `vocab_limit` > 0: tokens beyond it are an
/// error. The torch package that python-source reads is in `torch_folder`; when that is empty, in
/// the environment's SCHATTEN_TORCH_FOLDER, else the one whose libraries this process runs with.
std::shared_ptr<const Corpus> open_corpus(const std::string& source, int64_t vocab_limit = 0,
                                          const std::filesystem::path& torch_folder = {});

}  // namespace schatten
