#include <schatten/core/files.h>

#include <cmath>
#include <limits>

#include "support.h"

namespace schatten {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::message_of;

TEST(Files, WriteThenRead) {
  const testing::TemporaryFolder folder;
  const std::string text = std::string(200000, 'x') + '\0' + "end";
  write_file_durably(folder / "f", "old");
  write_file_durably(folder / "f", text);
  EXPECT_EQ(read_file(folder / "f"), text);
  write_file_durably(folder / "f", "");
  EXPECT_EQ(read_file(folder / "f"), "");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Files, ErrorsNameTheFile) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<Error>([&] { read_file(folder / "none"); }), "none] expected"));
  EXPECT_TRUE(contains(message_of<Error>([&] { read_file(folder / ""); }), "directory"));
  EXPECT_TRUE(contains(message_of<Error>([&] { write_file_durably(folder / "a/b", "x"); }), "a/b"));
  EXPECT_EQ(folder.count(), 0u);
}

TEST(Files, NeverReplacesFoldersDevicesOrLinks) {
  const testing::TemporaryFolder folder;
  fs::create_directory(folder / "d");
  message_of<Error>([&] { write_file_durably(folder / "d", "x"); });
  message_of<Error>([] { write_file_durably("/dev/null", "x"); });
  write_file_durably(folder / "real", "x");
  fs::create_symlink("real", folder / "link");
  write_file_durably(folder / "link", "y");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "real"), "y");
}

TEST(Files, WithoutCommitNothingIsLeft) {
  const testing::TemporaryFolder folder;
  write_file_durably(folder / "f", "old");
  {
    DurableFile file(folder / "f");
    file.write("new", 3);
  }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Files, LongNamesWork) {
  const testing::TemporaryFolder folder;
  write_file_durably(folder / std::string(255, 'n'), "x");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Files, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(int64_t{128} << 20), "128 MiB");
  EXPECT_EQ(format_bytes((int64_t{1} << 20) - 1), "1 MiB");
  EXPECT_EQ(format_bytes(std::numeric_limits<int64_t>::max()), "8 EiB");
  EXPECT_EQ(format_bytes(-1536), "-1.5 KiB");
}

TEST(Files, Counts) {
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(3'300'000), "3.3 M");
  EXPECT_EQ(format_count(124'439'808), "124 M");
  EXPECT_EQ(format_count(999'999), "1 M");
  EXPECT_EQ(format_count(1'500'000'000), "1.5 B");
}

TEST(Files, Durations) {
  EXPECT_EQ(format_duration(0.4), "0:00");
  EXPECT_EQ(format_duration(72), "1:12");
  EXPECT_EQ(format_duration(59.7), "1:00");
  EXPECT_EQ(format_duration(2 * 3600 + 3 * 60 + 4), "2:03:04");
  EXPECT_EQ(format_duration(100 * 3600), "100:00:00");
  EXPECT_EQ(format_duration(std::nan("")), "?");
  EXPECT_EQ(format_duration(INFINITY), "?");
}

}  // namespace
}  // namespace schatten
