#include <schatten/data/text_corpus_impl.h>

#include <random>
#include <set>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::kSplits;
using testing::message_of;
using testing::TemporaryFolder;
using testing::text_of;

std::string lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "line " + std::to_string(i) + "\n";
  return text;
}

std::shared_ptr<const Corpus> open_text_at(const std::filesystem::path& path) {
  return open_corpus("text:" + path.string());
}

std::string refusal(const std::filesystem::path& path) {
  return message_of<Error>([&] { open_text_at(path); });
}

TEST(Utf8, AgreesWithTheStandardsTable) {
  const std::string good[] = {"",
                              "ascii",
                              "\x7f",
                              "\xc2\x80",
                              "\xdf\xbf",
                              "\xe0\xa0\x80",
                              "\xed\x9f\xbf",
                              "\xee\x80\x80",
                              "\xef\xbf\xbf",
                              "\xf0\x90\x80\x80",
                              "\xf4\x8f\xbf\xbf",
                              std::string("\0", 1)};
  for (const std::string& s : good) EXPECT_EQ(first_invalid_utf8(s), std::string::npos) << s;
  const std::string bad[] = {"\x80",
                             "\xbf",
                             "\xc0\x80",
                             "\xc1\xbf",
                             "\xc2",
                             "\xc2\x41",
                             "\xe0\x9f\xbf",
                             "\xed\xa0\x80",
                             "\xe2\x82",
                             "\xe2\x28\xa1",
                             "\xf0\x8f\xbf\xbf",
                             "\xf4\x90\x80\x80",
                             "\xf5\x80\x80\x80",
                             "\xff",
                             "\xfe",
                             "\xf0\x9f\x98"};
  for (const std::string& s : bad) {
    for (const size_t before : {0u, 1u, 7u, 8u, 9u, 16u, 31u}) {
      EXPECT_EQ(first_invalid_utf8(std::string(before, 'a') + s + "tail of ascii"), before);
      EXPECT_EQ(first_invalid_utf8(std::string(before, 'a') + s), before);
    }
  }
}

TEST(TextSource, OneFileIsCutAtLineEnds) {
  const TemporaryFolder folder;
  const std::string text = lines(1000) + "no newline at the end";
  testing::write(folder / "a.txt", text);
  const auto corpus = open_text_at(folder / "a.txt");
  std::string all;
  for (const Split split : kSplits) all += text_of(*corpus, split);
  EXPECT_EQ(all, text);
  for (const Split split : {Split::train, Split::validation}) EXPECT_EQ(text_of(*corpus, split).back(), '\n');
  const auto share = [&](Split split) {
    return static_cast<double>(corpus->tokens(split).size()) / static_cast<double>(text.size());
  };
  EXPECT_NEAR(share(Split::train), 0.90, 0.005);
  EXPECT_NEAR(share(Split::validation), 0.05, 0.005);
  EXPECT_NEAR(share(Split::test), 0.05, 0.005);
}

TEST(TextSource, TokensAreBytes) {
  const TemporaryFolder folder;
  testing::write(folder / "a.txt", "\xc3\xa9\n" + lines(100));
  const auto corpus = open_text_at(folder / "a.txt");
  EXPECT_EQ(corpus->vocab(), 256);
  EXPECT_EQ(corpus->bytes_per_token(), 1);
  EXPECT_EQ(corpus->name(), "text:" + (folder / "a.txt").string());
  int64_t head[3];
  corpus->tokens(Split::train).copy(0, 3, head);
  EXPECT_EQ(head[0], 0xc3);
  EXPECT_EQ(head[1], 0xa9);
  EXPECT_EQ(head[2], '\n');
  EXPECT_EQ(corpus->decode(corpus->encode("\xc3\xa9 x")), "\xc3\xa9 x");
}

class ManyFiles : public ::testing::Test {
 protected:
  ManyFiles() {
    for (int i = 0; i < 200; ++i) testing::write(file(i), content(i));
  }
  std::filesystem::path file(int i) const {
    return folder_ / ("text/" + std::to_string(i % 7) + "/" + std::to_string(i) + ".txt");
  }
  static std::string content(int i) { return "<" + std::to_string(i) + ">" + (i % 2 ? "\n" : ""); }
  std::shared_ptr<const Corpus> open() const { return open_text_at(folder_ / "text"); }
  const TemporaryFolder folder_;
};

TEST_F(ManyFiles, EachBelongsToOneSplit) {
  const auto corpus = open();
  for (int i = 0; i < 200; ++i) {
    int found = 0;
    for (const Split split : kSplits)
      found += text_of(*corpus, split).find("<" + std::to_string(i) + ">\n") != std::string::npos ||
               text_of(*corpus, split).ends_with("<" + std::to_string(i) + ">");
    EXPECT_EQ(found, 1) << i;
  }
}

TEST_F(ManyFiles, SplitsGoByPathBelowTheFolderOnly) {
  const auto before = text_of(*open(), Split::validation);
  std::filesystem::rename(folder_ / "text", folder_ / "moved");
  const auto moved = open_text_at(folder_ / "moved");
  EXPECT_EQ(text_of(*moved, Split::validation), before);
  EXPECT_EQ(text_of(*open_text_at(folder_ / "moved/**/*.txt"), Split::validation), before);
  EXPECT_EQ(open_text_at(folder_ / "moved/**/*.txt")->id(), moved->id());
}

TEST_F(ManyFiles, TheIdIsThatOfTheContent) {
  const std::string id = open()->id();
  EXPECT_EQ(id.size(), 16u);
  EXPECT_EQ(open()->id(), id);
  for (const int i : {0, 99, 199}) {
    std::string changed = content(i);
    changed[0] ^= 1;
    testing::write(file(i), changed);
    EXPECT_NE(open()->id(), id) << i;
    testing::write(file(i), content(i));
    EXPECT_EQ(open()->id(), id) << i;
  }
  std::filesystem::rename(file(3), folder_ / "text/3/new.txt");
  EXPECT_NE(open()->id(), id) << "a new name";
}

TEST_F(ManyFiles, NonUtf8NamesFileAndOffset) {
  testing::write(file(50), "0123456789caf\xe9 x");
  const std::string message = message_of<Error>([&] { open(); });
  EXPECT_TRUE(contains(message, file(50).string() + "] expected UTF-8"));
  EXPECT_TRUE(contains(message, "offset 13"));
}

TEST(TextSource, TheIdOfOneFileIsThatOfItsContent) {
  const TemporaryFolder folder;
  std::string text = lines(100);
  testing::write(folder / "a.txt", text);
  testing::write(folder / "b.txt", text);
  const std::string id = open_text_at(folder / "a.txt")->id();
  EXPECT_EQ(open_text_at(folder / "b.txt")->id(), id);
  for (const size_t at : {size_t{0}, text.size() / 2, text.size() - 2}) {
    text[at] ^= 1;
    testing::write(folder / "b.txt", text);
    EXPECT_NE(open_text_at(folder / "b.txt")->id(), id);
    text[at] ^= 1;
  }
}

TEST(TextSource, RefusesWhatCannotBeSplit) {
  const TemporaryFolder folder;
  testing::write(folder / "empty", "");
  EXPECT_TRUE(contains(refusal(folder / "empty"), "none for train in 1 file"));
  testing::write(folder / "one_line", std::string(10000, 'x'));
  EXPECT_TRUE(contains(refusal(folder / "one_line"), "none for validation in 1 file"));
  testing::write(folder / "few/a", "x\n");
  testing::write(folder / "few/b", "y\n");
  EXPECT_TRUE(contains(refusal(folder / "few"), "in 2 files"));
  EXPECT_TRUE(contains(refusal(folder / "few"), "join"));
  EXPECT_TRUE(contains(refusal(folder / "none"), "none'"));
}

TEST(TextSource, EveryLengthIsCutIntoThreeOrRefused) {
  const TemporaryFolder folder;
  for (int size = 0; size < 130; ++size) {
    const std::string text(static_cast<size_t>(size), '\n');
    testing::write(folder / "f", text);
    if (size < 20) {
      try {
        open_text_at(folder / "f");
      } catch (const Error&) {
      }
      continue;
    }
    const auto corpus = open_text_at(folder / "f");
    std::string all;
    for (const Split split : kSplits) all += text_of(*corpus, split);
    EXPECT_EQ(all, text);
  }
}

TEST(OpenCorpus, UnknownSourcesAreUsageErrors) {
  const TemporaryFolder folder;
  testing::write(folder / "a.txt", lines(100));
  const std::string path = (folder / "a.txt").string();
  EXPECT_TRUE(contains(message_of<UsageError>([&] { open_corpus("c4"); }), "'c4'"));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { open_corpus(path); }), "'text:" + path + "'?"));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { open_corpus("text:" + path, 128); }), "256"));
  EXPECT_EQ(open_corpus("text:" + path, 300)->vocab(), 256);
}

}  // namespace
}  // namespace schatten
