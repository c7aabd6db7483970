// Logs: what survives a kill, and what a resumed run finds.
#include <gtest/gtest.h>
#include <schatten/core/files.h>
#include <schatten/train/jsonl.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

Value record(int64_t step) {
  return Value::Table{{"event", "train"}, {"step", step}, {"loss", 1.0 / static_cast<double>(step)}};
}

std::filesystem::path three_records(const TemporaryFolder& folder) {
  LogFile log(folder / "metrics.jsonl", 0);
  for (int64_t step = 1; step <= 3; ++step) log.write_record(record(step));
  return folder / "metrics.jsonl";
}

void append(const std::filesystem::path& path, const std::string& text) { std::ofstream(path, std::ios::app) << text; }

TEST(Jsonl, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const auto records = read_jsonl(three_records(folder));
  ASSERT_EQ(records.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(records[i], record(static_cast<int64_t>(i) + 1));
}

TEST(Jsonl, EveryRecordIsOnDiskAtOnce) {
  const TemporaryFolder folder;
  LogFile log(folder / "metrics.jsonl", 0);
  log.write_record(record(1));
  EXPECT_EQ(read_file(folder / "metrics.jsonl"), to_json(record(1)) + "\n");
  EXPECT_EQ(log.size(), static_cast<int64_t>(std::filesystem::file_size(folder / "metrics.jsonl")));
}

TEST(Jsonl, ATornLastLineIsDropped) {
  const TemporaryFolder folder;
  const auto path = three_records(folder);
  append(path, R"({"event":"train","st)");
  EXPECT_EQ(read_jsonl(path).size(), 3u);
  append(path, "ep\":4}\n");  // once whole, it counts
  EXPECT_EQ(read_jsonl(path).size(), 4u);
}

TEST(Jsonl, AnEmptyLogHasNoRecordsAndNoLogIsAnError) {
  const TemporaryFolder folder;
  append(folder / "empty.jsonl", "");
  EXPECT_TRUE(read_jsonl(folder / "empty.jsonl").empty());
  EXPECT_TRUE(contains(message_of<Error>([&] { read_jsonl(folder / "none.jsonl"); }), "none.jsonl"));
}

TEST(Jsonl, ADamagedLineIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  const auto path = three_records(folder);
  append(path, "{\"event\":\"tr\n");
  append(path, to_json(record(5)) + "\n");
  EXPECT_TRUE(contains(message_of<Error>([&] { read_jsonl(path); }), "metrics.jsonl, line 4"));
}

TEST(Jsonl, EmptyLinesCount) {
  const TemporaryFolder folder;
  const auto path = three_records(folder);
  append(path, "\n\n");
  EXPECT_EQ(read_jsonl(path).size(), 3u);
  append(path, "nonsense\n");
  EXPECT_TRUE(contains(message_of<Error>([&] { read_jsonl(path); }), "metrics.jsonl, line 6"));
}

TEST(Jsonl, NumbersThatAreNoneAreListed) {
  const TemporaryFolder folder;
  LogFile(folder / "m.jsonl", 0).write_record(Value::Table{{"loss", NAN}, {"step", 1}});
  const Value read = read_jsonl(folder / "m.jsonl").at(0);
  EXPECT_TRUE(read.at("loss").is_null());
  EXPECT_EQ(read.at("nonfinite"), Value(Value::Array{"loss"}));
}

TEST(LogFile, GoesOnAfterWhatTheCheckpointSaw) {
  const TemporaryFolder folder;
  const auto path = three_records(folder);
  const std::string text = read_file(path);
  const auto keep = static_cast<int64_t>(text.find('\n', text.find('\n') + 1)) + 1;
  {
    LogFile log(path, keep);
    EXPECT_EQ(log.size(), keep);
    log.write_record(record(9));
  }
  const auto records = read_jsonl(path);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[1], record(2));
  EXPECT_EQ(records[2], record(9));  // in the place of the third
}

TEST(LogFile, KeepingMoreThanThereIsAddsNothing) {
  const TemporaryFolder folder;
  const auto path = three_records(folder);
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
  EXPECT_EQ(LogFile(path, kAll).size(), size);
  EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(path)), size);
  EXPECT_EQ(LogFile(path, 0).size(), 0);
  EXPECT_EQ(std::filesystem::file_size(path), 0u);
}

TEST(LogFile, HasOneWriter) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    LogFile first(path, 0);
    first.write("kept\n");
    EXPECT_TRUE(contains(message_of<Error>([&] { LogFile(path, 0); }), "only process"));
    EXPECT_EQ(read_file(path), "kept\n");
  }
  LogFile again(path, 5);  // free again
  EXPECT_EQ(again.size(), 5);
}

TEST(LogFile, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<Error>([&] { LogFile((folder / "none") / "metrics.jsonl", 0); }), "metrics.jsonl"));
  EXPECT_TRUE(contains(message_of<Error>([] { LogFile("/dev/full", 0).write("x"); }), "/dev/full"));
}

}  // namespace
}  // namespace schatten
