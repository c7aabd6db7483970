#include <schatten/core/value.h>

#include <cstring>

#include "support.h"

namespace schatten {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::kSplits;
using testing::message_of;
using testing::TemporaryFolder;
using testing::tokens_of;

fs::path shards_folder() {
  const char* set = std::getenv("SCHATTEN_GOLDEN");
  return fs::path(set && *set ? set : SCHATTEN_TEST_GOLDEN_DIR) / "formats/shards";
}

template <class Token>
std::string shard(int32_t magic, int32_t version, const std::vector<Token>& tokens) {
  int32_t header[256] = {magic, version, static_cast<int32_t>(tokens.size())};
  std::string text(reinterpret_cast<const char*>(header), sizeof header);
  return text.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
}

std::string shard16(int from, int count) {
  std::vector<uint16_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), static_cast<uint16_t>(from));
  return shard(20240520, 1, tokens);
}

std::vector<int64_t> range(int from, int count) {
  std::vector<int64_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), from);
  return tokens;
}

/// A folder of shards.
class TokenShards : public ::testing::Test {
 protected:
  std::shared_ptr<const Corpus> open(int64_t vocab_limit = 0) const {
    return open_corpus("tokens:" + (folder_ / "*.bin").string(), vocab_limit);
  }
  std::string refusal(int64_t vocab_limit = 0) const {
    return message_of<Error>([&] { open(vocab_limit); });
  }
  void take(const std::string& golden, const std::string& name) const {
    fs::copy_file(shards_folder() / golden, folder_ / name, fs::copy_options::overwrite_existing);
  }
  const TemporaryFolder folder_;
};

std::vector<int64_t> expected_tokens(const std::string& file) {
  std::vector<int64_t> tokens;
  const Value golden = parse_json(read_file(shards_folder() / file));
  for (const Value& v : golden.at("tokens").as_array()) tokens.push_back(v.as_integer());
  return tokens;
}

TEST_F(TokenShards, ReadsTheGoldenOnes) {
  for (const std::string name : {"valid_300", "valid_llama3_50"}) {
    take(name + ".bin", "train.bin");
    take(name + ".bin", "val.bin");
    const auto corpus = open();
    const auto expected = expected_tokens(name + ".json");
    EXPECT_EQ(tokens_of(corpus->tokens(Split::train)), expected);
    auto held_out = tokens_of(corpus->tokens(Split::validation));
    EXPECT_EQ(held_out.size(), expected.size() / 2);
    for (const int64_t t : tokens_of(corpus->tokens(Split::test))) held_out.push_back(t);
    EXPECT_EQ(held_out, expected);
    EXPECT_EQ(corpus->bytes_per_token(), 0);
    EXPECT_EQ(corpus->decode({1, 2}), "");
  }
}

// What the golden index calls valid only under another option is refused here, too.
TEST_F(TokenShards, RefusesEveryMalformedGoldenFile) {
  take("valid_300.bin", "val.bin");
  const Value index = parse_json(read_file(shards_folder().parent_path() / "index.json"));
  int refused = 0;
  for (const Value& file : index.at("files").as_array()) {
    const std::string path = file.at("path").as_string();
    const bool usable = file.at("valid") == Value(true) && path != "shards/valid_raw_u16_300.bin";
    if (file.at("kind").as_string() != "token_shard" || usable) continue;
    take(path.substr(7), "train.bin");
    EXPECT_TRUE(contains(refusal(50257), (folder_ / "train.bin").string())) << path;
    ++refused;
  }
  EXPECT_GE(refused, 15);
}

TEST_F(TokenShards, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"bad_wrong_magic.bin", "got 20240521"},
      {"bad_byte_swapped_magic.bin", "byte-swapped"},
      {"bad_wrong_version.bin", "expected version 1, got 2"},
      {"bad_short_header.bin", "a file of 1023"},
      {"bad_only_12_bytes.bin", "a file of 12"},
      {"bad_empty_file.bin", "a file of 0"},
      {"bad_count_too_large.bin", "says, 301, got 300"},
      {"bad_count_too_small.bin", "says, 299, got 300"},
      {"bad_odd_length.bin", "got 601 bytes"},
      {"bad_odd_length_short.bin", "got 599 bytes"},
      {"bad_negative_count.bin", "got -1"},
      {"bad_huge_count.bin", "says, 2147483647, got 300"},
      {"bad_eval_magic.bin", "evaluation file"},
      {"bad_token_out_of_vocab.bin", "below 50257, got 65535 at position 299"},
      {"valid_raw_u16_300.bin", "a file of 600"},
  };
  take("valid_300.bin", "val.bin");
  for (const auto& [golden, words] : cases) {
    take(golden, "train.bin");
    EXPECT_TRUE(contains(refusal(50257), words)) << golden;
  }
  testing::write(folder_ / "train.bin", std::string(4096, 'x'));
  EXPECT_TRUE(contains(refusal(), "without a header"));
}

TEST_F(TokenShards, RunsGoThroughFilesInOrder) {
  testing::write(folder_ / "train_2.bin", shard16(10, 7));
  testing::write(folder_ / "train_1.bin", shard16(0, 10));
  testing::write(folder_ / "train_3.bin", shard16(17, 0));
  testing::write(folder_ / "train_4.bin", shard16(17, 3));
  testing::write(folder_ / "val_1.bin", shard16(100, 3));
  testing::write(folder_ / "val_2.bin", shard16(103, 8));
  const auto corpus = open();
  EXPECT_EQ(tokens_of(corpus->tokens(Split::train)), range(0, 20));
  EXPECT_EQ(tokens_of(corpus->tokens(Split::validation)), range(100, 5));
  EXPECT_EQ(tokens_of(corpus->tokens(Split::test)), range(105, 6));
  for (const Split split : kSplits) {
    const auto all = tokens_of(corpus->tokens(split));
    for (size_t from = 0; from < all.size(); ++from) {
      for (size_t count = 0; from + count <= all.size(); ++count) {
        std::vector<int64_t> out(count + 1, -1);
        corpus->tokens(split).copy(static_cast<int64_t>(from), static_cast<int64_t>(count), out.data());
        EXPECT_TRUE(std::equal(out.begin(), out.end() - 1, all.begin() + static_cast<int64_t>(from)));
        EXPECT_EQ(out.back(), -1);
      }
    }
  }
}

TEST_F(TokenShards, VocabIsTheModelsOrWhatTheFormatHolds) {
  take("valid_300.bin", "train.bin");
  take("valid_300.bin", "val.bin");
  EXPECT_EQ(open()->vocab(), 65536);
  EXPECT_EQ(open(50304)->vocab(), 50304);
  take("valid_llama3_50.bin", "train.bin");
  EXPECT_TRUE(contains(refusal(), "do not mix"));
  take("valid_llama3_50.bin", "val.bin");
  EXPECT_EQ(open()->vocab(), 128256);
}

TEST_F(TokenShards, ATokenBeyondTheCheckedHeadIsFoundWhenRead) {
  std::vector<uint16_t> tokens((size_t{1} << 22) + 100, 5);
  tokens[tokens.size() - 3] = 60000;
  testing::write(folder_ / "train.bin", shard(20240520, 1, tokens));
  testing::write(folder_ / "val.bin", shard16(0, 10));
  const auto corpus = open(50257);
  int64_t out[10];
  corpus->tokens(Split::train).copy(0, 10, out);
  EXPECT_TRUE(contains(
      message_of<Error>([&] { corpus->tokens(Split::train).copy(corpus->tokens(Split::train).size() - 10, 10, out); }),
      "60000 at position " + std::to_string(tokens.size() - 3)));
  tokens[(size_t{1} << 22) - 1] = 50257;
  testing::write(folder_ / "train.bin", shard(20240520, 1, tokens));
  EXPECT_TRUE(contains(refusal(50257), "50257 at position 4194303"));
}

TEST_F(TokenShards, TheIdChangesWithAnyByteOfASmallFile) {
  testing::write(folder_ / "train.bin", shard16(0, 5000));
  testing::write(folder_ / "val.bin", shard16(0, 10));
  const std::string id = open()->id();
  EXPECT_EQ(open()->id(), id);
  for (const int at : {0, 2500, 4999}) {
    std::string text = shard16(0, 5000);
    text[static_cast<size_t>(1024 + 2 * at)] ^= 1;
    testing::write(folder_ / "train.bin", text);
    EXPECT_NE(open()->id(), id) << at;
  }
}

TEST_F(TokenShards, NeedsTrainAndHeldOut) {
  testing::write(folder_ / "train.bin", shard16(0, 10));
  EXPECT_TRUE(contains(refusal(), "'val'"));
  testing::write(folder_ / "val.bin", shard16(0, 0));
  EXPECT_TRUE(contains(refusal(), "10 and 0"));
  fs::rename(folder_ / "train.bin", folder_ / "val.bin");
  EXPECT_TRUE(contains(refusal(), "0 and 10"));
}

TEST_F(TokenShards, AFolderMeansItsBinFiles) {
  testing::write(folder_ / "train.bin", shard16(0, 10));
  testing::write(folder_ / "val.bin", shard16(0, 10));
  testing::write(folder_ / "README.md", "words");
  const auto corpus = open_corpus("tokens:" + (folder_ / "").string());
  EXPECT_EQ(corpus->tokens(Split::train).size(), 10);
  EXPECT_EQ(corpus->id(), open()->id());
}

}  // namespace
}  // namespace schatten
