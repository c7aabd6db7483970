// tokens:GLOB: shards of llm.c and modded-nanogpt, memory-mapped.
//   256 int32 header: magic 20240520, version 1, count; then `count` uint16 tokens.
// Files with "val" in their name are held out (first half validation, second half test), the others train.
#include <schatten/core/error.h>
#include <schatten/core/rng.h>
#include <schatten/data/text_corpus_impl.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace schatten {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kHeaderBytes = 1024;

/// One shard: the mapping lives as long as it.
class Shard {
 public:
  explicit Shard(const fs::path& path) : path_(path.string()) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat facts {};
    if (fd < 0 || ::fstat(fd, &facts) != 0) {
      const std::string reason = std::strerror(errno);
      if (fd >= 0) ::close(fd);
      fail({path_, "a readable shard", reason, ""});
    }
    bytes_ = facts.st_size;
    if (bytes_ > 0) data_ = ::mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (data_ == MAP_FAILED) {
      data_ = nullptr;
      fail({path_, "a readable shard", std::strerror(errno), ""});
    }
    read_header();
  }
  Shard(Shard&& other) noexcept
      : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_), count_(other.count_) {}
  Shard& operator=(Shard&&) = delete;
  ~Shard() {
    if (data_) ::munmap(data_, static_cast<size_t>(bytes_));
  }
  int64_t count() const { return count_; }
  const uint16_t* tokens() const {
    return reinterpret_cast<const uint16_t*>(static_cast<const char*>(data_) + kHeaderBytes);
  }
  void check_vocab(int64_t limit) const {
    for (int64_t i = 0; limit > 0 && i < count_; ++i)
      if (tokens()[i] >= limit)
        bad("token ids below " + std::to_string(limit),
            std::to_string(tokens()[i]) + " at position " + std::to_string(i), "Raise model.vocab.");
  }

 private:
  [[noreturn]] void bad(const std::string& expected, const std::string& got, const std::string& way_out) const {
    fail({path_, expected, got, way_out});
  }
  void read_header() {
    if (bytes_ < kHeaderBytes)
      bad("a header of 1024 bytes", std::to_string(bytes_) + " bytes", "The file is truncated or not a shard.");
    int32_t header[3];
    std::memcpy(header, data_, sizeof header);
    check_magic(header[0]);
    if (header[1] != 1) bad("shard version 1", std::to_string(header[1]), "");
    if (header[2] < 0) bad("a token count", std::to_string(header[2]), "The header is damaged.");
    if ((bytes_ - kHeaderBytes) % 2 != 0)
      bad("two bytes per token", std::to_string(bytes_ - kHeaderBytes) + " bytes of tokens", "The file is truncated.");
    count_ = header[2];
    if (bytes_ - kHeaderBytes != 2 * count_)
      bad(std::to_string(count_) + " tokens, as the header says", std::to_string((bytes_ - kHeaderBytes) / 2),
          "The file is truncated or the header damaged.");
  }
  void check_magic(int32_t magic) const {
    const std::string expected = "magic 20240520 (uint16 tokens)";
    if (magic == 20240520) return;
    const std::string got = std::to_string(magic);
    if (magic == 20240522) bad(expected, got + ": an evaluation file", "Use the training shards.");
    if (magic == 20240801) bad(expected, got + ": LLaMA-3 tokens of 32 bits", "Only uint16 shards are read.");
    if (magic == static_cast<int32_t>(__builtin_bswap32(20240520))) bad(expected, "it byte-swapped", "Write little-endian.");
    bad(expected, got, "Files without a header are not read: add one.");
  }
  std::string path_;
  void* data_ = nullptr;
  int64_t bytes_ = 0, count_ = 0;
};

/// A run of tokens over shards, of which [from, from + size) counts.
class ShardView final : public TokenView {
 public:
  void add(const Shard& shard, int64_t from, int64_t count) {
    if (count > 0) pieces_.push_back({shard.tokens() + from, size_, count});
    size_ += count;
  }
  int64_t size() const override { return size_; }
  void copy(int64_t from, int64_t count, int64_t* out) const override {
    for (const Piece& p : pieces_) {
      const int64_t begin = std::max(from, p.start), end = std::min(from + count, p.start + p.count);
      for (int64_t i = begin; i < end; ++i) out[i - from] = p.tokens[i - p.start];
    }
  }

 private:
  struct Piece {
    const uint16_t* tokens;
    int64_t start, count;
  };
  std::vector<Piece> pieces_;
  int64_t size_ = 0;
};

class ShardCorpus final : public Corpus {
 public:
  ShardCorpus(std::string pattern, int64_t vocab_limit) : name_("tokens:" + pattern), vocab_(vocab_limit > 0 ? vocab_limit : 65536) {
    uint64_t hash = fnv1a("tokens 1");
    std::vector<size_t> held_out;
    for (const fs::path& path : list_files(pattern)) {
      shards_.emplace_back(path);
      const Shard& shard = shards_.back();
      shard.check_vocab(vocab_limit);
      hash = mix(mix(hash, fnv1a(path.filename().string())), static_cast<uint64_t>(shard.count()));
      const size_t bytes = static_cast<size_t>(std::min<int64_t>(shard.count(), 4096)) * 2;
      hash = mix(hash, fnv1a({reinterpret_cast<const char*>(shard.tokens()), bytes}));
      if (path.filename().string().find("val") != std::string::npos) held_out.push_back(shards_.size() - 1);
      else train_.push_back(shards_.size() - 1);
    }
    id_ = hex(hash);
    arrange(held_out);
  }
  std::string name() const override { return name_; }
  std::string id() const override { return id_; }
  int64_t vocab() const override { return vocab_; }
  double bytes_per_token() const override { return 0; }
  const TokenView& tokens(Split split) const override { return views_[static_cast<size_t>(split)]; }
  std::string decode(const std::vector<int64_t>&) const override { return ""; }
  std::vector<int64_t> encode(std::string_view) const override { return {}; }

 private:
  void arrange(const std::vector<size_t>& held_out) {
    for (const size_t i : train_) views_[0].add(shards_[i], 0, shards_[i].count());
    for (const size_t i : held_out) {
      const int64_t half = shards_[i].count() / 2;
      views_[1].add(shards_[i], 0, half);
      views_[2].add(shards_[i], half, shards_[i].count() - half);
    }
    if (views_[0].size() == 0 || views_[1].size() == 0)
      fail({name_, "training shards and held-out ones (with 'val' in their names)",
            std::to_string(train_.size()) + " and " + std::to_string(held_out.size()), "Widen the pattern."});
  }
  std::string name_, id_;
  int64_t vocab_;
  std::vector<Shard> shards_;
  std::vector<size_t> train_;
  std::array<ShardView, 3> views_;
};

}  // namespace

std::shared_ptr<const Corpus> open_token_shards(const std::string& pattern, int64_t vocab_limit) {
  return std::make_shared<ShardCorpus>(pattern, vocab_limit);
}

std::shared_ptr<const Corpus> open_corpus(const std::string& source, int64_t vocab_limit, const fs::path& torch_folder) {
  if (source == "python-source") return open_python_source(torch_folder);
  if (source.starts_with("text:")) return open_text(source.substr(5));
  if (source.starts_with("tokens:")) return open_token_shards(source.substr(7), vocab_limit);
  fail_usage({"data.source", "python-source, text:PATH or tokens:GLOB", "'" + source + "'",
              fs::exists(source) ? "Did you mean 'text:" + source + "'?" : ""});
}

}  // namespace schatten
