// tokens:GLOB: the shards of llm.c and modded-nanogpt, memory-mapped. Little-endian: 256 int32
// (magic, version, count, zeros), then the tokens.
//   GPT-2:   magic 20240520, version 1, uint16 tokens
//   LLaMA-3: magic 20240801, version 7, uint32 tokens
// Of the files with "val" in their names, one after the other, the first half of the tokens is
// validation and the second test; the other files are train. Order is that of the paths.
#include <fcntl.h>
#include <schatten/core/error.h>
#include <schatten/core/rng.h>
#include <schatten/data/list_files_impl.h>
#include <schatten/data/sources_impl.h>
#include <schatten/data/text_corpus_impl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace schatten {

namespace fs = std::filesystem;

namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

constexpr int64_t kHeaderBytes = 1024;
// Tokens of each shard whose ids are checked at opening; the others are when they are read, so that
// opening a hundred shards does not read 20 GB.
constexpr int64_t kCheckedAtOpening = int64_t{1} << 22;

/// A whole file, read-only. It must not be shortened while it is open.
class Mapping {
 public:
  explicit Mapping(const fs::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat facts {};
    bool fine = file >= 0 && ::fstat(file, &facts) == 0;
    if (fine && facts.st_size > 0) {
      void* at = ::mmap(nullptr, static_cast<size_t>(facts.st_size), PROT_READ, MAP_SHARED, file, 0);
      fine = at != MAP_FAILED;
      if (fine) bytes_ = {static_cast<const char*>(at), static_cast<size_t>(facts.st_size)};
    }
    const int error = errno;
    if (file >= 0) ::close(file);
    if (!fine) fail({path.string(), "a readable shard", std::generic_category().message(error), ""});
  }
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
  }
  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

struct Format {
  int32_t magic, version;
  int64_t width, vocab;  // vocab: what the tokens can be when no model says
};
constexpr Format kFormats[] = {{20240520, 1, 2, 65536}, {20240801, 7, 4, 128256}};

[[noreturn]] void fail_magic(const std::string& file, int32_t magic) {
  const std::string expected = "magic 20240520 (uint16 tokens) or 20240801 (uint32)";
  const std::string got = std::to_string(magic);
  const auto swapped = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(magic)));
  for (const Format& f : kFormats)
    if (swapped == f.magic) fail({file, expected, got + " (byte-swapped)", "Write little-endian."});
  if (magic == 20240522) fail({file, expected, got + " (an evaluation file, as of HellaSwag)", "Use token shards."});
  fail({file, expected, got,
        "Not a shard. Files without a header (nanoGPT's) need one in front: 256 int32, the first\n"
        "  three 20240520, 1 and the number of tokens."});
}

const Format& read_format(const std::string& file, const int32_t* header) {
  for (const Format& f : kFormats) {
    if (header[0] != f.magic) continue;
    if (header[1] == f.version) return f;
    fail({file, "version " + std::to_string(f.version), std::to_string(header[1]), ""});
  }
  fail_magic(file, header[0]);
}

class Shard {
 public:
  explicit Shard(const fs::path& path) : file_(path.string()), mapping_(path) {
    const auto size = static_cast<int64_t>(mapping_.bytes().size());
    if (size < kHeaderBytes)
      fail({file_, "a header of 1024 bytes", "a file of " + std::to_string(size),
            "The file is cut short or not a shard."});
    int32_t header[3];
    std::memcpy(header, mapping_.bytes().data(), sizeof header);
    format_ = read_format(file_, header);
    count_ = header[2];
    check_size(size - kHeaderBytes);
  }
  const std::string& file() const { return file_; }
  const Format& format() const { return format_; }
  int64_t count() const { return count_; }
  std::string_view bytes() const { return mapping_.bytes(); }

  /// Every id that leaves is below `limit`.
  void copy(int64_t from, int64_t count, int64_t limit, int64_t* out) const {
    const char* tokens = bytes().data() + kHeaderBytes;
    if (format_.width == 2) {
      std::copy_n(reinterpret_cast<const uint16_t*>(tokens) + from, count, out);
    } else {
      std::copy_n(reinterpret_cast<const uint32_t*>(tokens) + from, count, out);
    }
    const int64_t* bad = std::find_if(out, out + count, [&](int64_t id) { return id >= limit; });
    if (bad != out + count)
      fail({file_, "token ids below " + std::to_string(limit),
            std::to_string(*bad) + " at position " + std::to_string(from + (bad - out)),
            "Set model.vocab to the tokenizer's size, or use shards of another tokenizer."});
  }
  void check_head(int64_t limit) const {
    std::array<int64_t, 4096> ids;
    const int64_t end = std::min(count_, kCheckedAtOpening), step = std::ssize(ids);
    for (int64_t at = 0; at < end; at += step) copy(at, std::min(step, end - at), limit, ids.data());
  }

 private:
  /// Compares sizes without multiplying what a file claims.
  void check_size(int64_t bytes) const {
    const int64_t width = format_.width;
    if (count_ < 0) fail({file_, "a token count", std::to_string(count_), "The header is damaged."});
    if (bytes % width != 0)
      fail({file_, std::to_string(width) + " bytes for each token", std::to_string(bytes) + " bytes of tokens",
            "The file is cut short or damaged."});
    if (bytes / width != count_)
      fail({file_, "as many tokens as its header says, " + std::to_string(count_), std::to_string(bytes / width),
            "The file is cut short or its header damaged."});
  }

  std::string file_;
  Mapping mapping_;
  Format format_{};
  int64_t count_ = 0;
};

/// A run of tokens that goes through several shards.
class ShardView final : public TokenView {
 public:
  void add(const Shard& shard, int64_t from, int64_t count, int64_t limit) {
    if (count <= 0) return;
    pieces_.push_back({&shard, from, size_, count, limit});
    size_ += count;
  }
  int64_t size() const override { return size_; }
  void copy(int64_t from, int64_t count, int64_t* out) const override {
    for (const Piece& p : pieces_) {
      const int64_t begin = std::max(from, p.start);
      const int64_t end = std::min(from + count, p.start + p.count);
      if (begin < end) p.shard->copy(p.from + begin - p.start, end - begin, p.limit, out + begin - from);
    }
  }

 private:
  struct Piece {
    const Shard* shard;
    int64_t from, start, count, limit;  // `from` in the shard is `start` in the view
  };
  std::vector<Piece> pieces_;
  int64_t size_ = 0;
};

std::string base_name(const std::string& file) { return fs::path(file).filename().string(); }
bool held_out(const Shard& shard) { return base_name(shard.file()).find("val") != std::string::npos; }

/// Of the name, the size, and up to 1024 pages spread over the file: all of it up to 4 MiB.
uint64_t fingerprint(const Shard& shard) {
  constexpr size_t page = 4096, most = 1024;
  const std::string_view bytes = shard.bytes();
  const size_t pages = (bytes.size() + page - 1) / page, taken = std::min(pages, most);
  uint64_t hash = mix(fnv1a(base_name(shard.file())), bytes.size());
  for (size_t i = 0; i < taken; ++i) hash = mix(hash, fnv1a(bytes.substr(i * pages / taken * page, page)));
  return hash;
}

class ShardCorpus final : public Corpus {
 public:
  ShardCorpus(std::string name, std::vector<Shard> shards, int64_t vocab_limit)
      : name_(std::move(name)), shards_(std::move(shards)) {
    const Format& format = shards_.front().format();
    vocab_ = vocab_limit > 0 ? vocab_limit : format.vocab;
    uint64_t hash = fnv1a("tokens 1");
    for (const Shard& shard : shards_) {
      if (shard.format().magic != format.magic)
        fail({shard.file(), "the format of " + shards_.front().file(), "another",
              "Shards of two tokenizers do not mix."});
      shard.check_head(vocab_);
      hash = mix(hash, fingerprint(shard));
    }
    id_ = hex(hash);
    fill_views();
    require_every_split();
  }
  std::string name() const override { return name_; }
  std::string id() const override { return id_; }
  int64_t vocab() const override { return vocab_; }
  double bytes_per_token() const override { return 0; }
  const TokenView& tokens(Split split) const override { return views_[static_cast<size_t>(split)]; }
  std::string decode(const std::vector<int64_t>&) const override { return ""; }
  std::vector<int64_t> encode(std::string_view) const override { return {}; }

 private:
  void fill_views() {
    auto& [train, validation, test] = views_;
    int64_t all = 0;
    for (const Shard& shard : shards_) all += held_out(shard) ? shard.count() : 0;
    int64_t left = all / 2;  // of validation
    for (const Shard& shard : shards_) {
      if (!held_out(shard)) {
        train.add(shard, 0, shard.count(), vocab_);
        continue;
      }
      const int64_t first = std::min(left, shard.count());
      validation.add(shard, 0, first, vocab_);
      test.add(shard, first, shard.count() - first, vocab_);
      left -= first;
    }
  }
  void require_every_split() const {
    const auto size = [&](Split split) { return tokens(split).size(); };
    if (size(Split::train) > 0 && size(Split::validation) > 0) return;
    fail({name_, "tokens to train on, and held-out ones in files with 'val' in their names",
          std::to_string(size(Split::train)) + " and " + std::to_string(size(Split::validation) + size(Split::test)),
          "Widen the pattern, or rename the shard to hold out."});
  }

  std::string name_, id_;
  int64_t vocab_ = 0;
  std::vector<Shard> shards_;  // the views point into it
  std::array<ShardView, 3> views_;
};

}  // namespace

std::shared_ptr<const Corpus> open_token_shards(const std::string& pattern, int64_t vocab_limit) {
  std::error_code ignored;
  const bool folder = fs::is_directory(pattern, ignored);
  const FileList files = list_files(folder ? pattern + "/**/*.bin" : pattern);
  std::vector<Shard> shards;
  for (const std::string& name : files.names) shards.emplace_back(files.root / name);
  return std::make_shared<ShardCorpus>("tokens:" + pattern, std::move(shards), vocab_limit);
}

}  // namespace schatten
