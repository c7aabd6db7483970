#include <schatten/data/list_files_impl.h>

#include "support.h"

namespace schatten {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

class ListFiles : public ::testing::Test {
 protected:
  ListFiles() {
    for (const char* name :
         {"b.txt", "a.txt", "a.md", ".hidden.txt", "x/a.txt", "x/y/z.txt", "x/y/ab.txt", ".git/a.txt", "[odd]/q.txt"})
      testing::write(folder_ / name, name);
  }
  Names names(const std::string& pattern) const { return find_files(folder_ / "", pattern); }
  const TemporaryFolder folder_;
};

TEST_F(ListFiles, PatternsMeanWhatShellsMean) {
  EXPECT_EQ(names("*.txt"), (Names{"a.txt", "b.txt"}));
  EXPECT_EQ(names("?.txt"), (Names{"a.txt", "b.txt"}));
  EXPECT_EQ(names("*"), (Names{"a.md", "a.txt", "b.txt"}));
  EXPECT_EQ(names("*/a.txt"), (Names{"x/a.txt"}));
  EXPECT_EQ(names("x/*"), (Names{"x/a.txt"}));
  EXPECT_EQ(names("**/a*"), (Names{"a.md", "a.txt", "x/a.txt", "x/y/ab.txt"}));
  EXPECT_EQ(names("x/**"), (Names{"x/a.txt", "x/y/ab.txt", "x/y/z.txt"}));
  EXPECT_EQ(names("**/y/**/z.txt"), (Names{"x/y/z.txt"}));
  EXPECT_EQ(names("**/**/z*t"), (Names{"x/y/z.txt"}));
  EXPECT_EQ(names("[odd]/*"), (Names{"[odd]/q.txt"}));
  EXPECT_EQ(names("a**d"), (Names{"a.md"}));
  EXPECT_EQ(names("*.tx"), Names{});
  EXPECT_EQ(names(".*.txt"), (Names{".hidden.txt"}));
}

TEST_F(ListFiles, FileFolderAndPattern) {
  EXPECT_EQ(list_files((folder_ / "a.md").string()).names, (Names{"a.md"}));
  EXPECT_EQ(list_files((folder_ / "a.md").string()).root, (folder_ / "").parent_path());
  EXPECT_EQ(list_files((folder_ / "x").string()).names, (Names{"a.txt", "y/ab.txt", "y/z.txt"}));
  EXPECT_EQ(list_files((folder_ / "x/*/z*").string()).names, (Names{"y/z.txt"}));
  EXPECT_EQ(list_files((folder_ / "x/*/z*").string()).root, folder_ / "x");
  EXPECT_EQ(list_files((folder_ / ".git").string()).names, (Names{"a.txt"})) << "asked for by name";
}

TEST_F(ListFiles, LinksToFilesCountAndLoopsEnd) {
  fs::create_directory_symlink(folder_ / "", folder_ / "x/loop");
  fs::create_symlink(folder_ / "b.txt", folder_ / "x/link.txt");
  EXPECT_EQ(names("x/**"), (Names{"x/a.txt", "x/link.txt", "x/y/ab.txt", "x/y/z.txt"}));
}

TEST_F(ListFiles, ManyStarsStayFast) {
  testing::write(folder_ / std::string(200, 'a'), "");
  std::string pattern;
  for (int i = 0; i < 60; ++i) pattern += "*a";
  EXPECT_EQ(names(pattern + "b"), Names{});
  EXPECT_EQ(names(pattern).size(), 1u);
}

TEST_F(ListFiles, NothingFoundNamesThePattern) {
  fs::create_directory(folder_ / "empty");
  for (const char* name : {"none", "none/*", "*.zip", "empty", "none/**/a?"}) {
    const std::string pattern = (folder_ / name).string();
    EXPECT_TRUE(contains(message_of<Error>([&] { list_files(pattern); }), "'" + pattern + "'"));
  }
  message_of<Error>([] { list_files(""); });
  message_of<Error>([] { list_files("/dev/zero"); });
  message_of<Error>([] { list_files(std::string(5000, 'n')); });
}

}  // namespace
}  // namespace schatten
