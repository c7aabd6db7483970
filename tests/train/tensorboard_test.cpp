// TensorBoard event files, byte by byte. That the package reads them is checked in python/test_packages.py.
#include <gtest/gtest.h>
#include <schatten/core/files.h>
#include <schatten/train/tensorboard.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

template <class T>
T number_at(const std::string& text, size_t at) {
  T value{};
  std::memcpy(&value, text.substr(at, sizeof value).data(), sizeof value);
  return value;
}

/// Events of a file, every length and checksum checked.
std::vector<std::string> events_of(const std::string& file) {
  std::vector<std::string> events;
  for (size_t at = 0; at < file.size();) {
    const auto length = number_at<uint64_t>(file, at);
    EXPECT_EQ(number_at<uint32_t>(file, at + 8), masked_crc32c(file.substr(at, 8)));
    events.push_back(file.substr(at + 12, length));
    EXPECT_EQ(events.back().size(), length);
    EXPECT_EQ(number_at<uint32_t>(file, at + 12 + length), masked_crc32c(events.back()));
    at += 16 + length;
  }
  return events;
}

TEST(Crc32c, KnownVectors) {  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string rising(32, '\0');
  std::iota(rising.begin(), rising.end(), '\0');
  EXPECT_EQ(crc32c(rising), 0x46DD794Eu);
}

TEST(Crc32c, TheMaskRotatesByFifteenAndAdds) {
  EXPECT_EQ(masked_crc32c(""), 0xA282EAD8u);
  EXPECT_EQ(masked_crc32c("123456789"), ((0xE3069283u >> 15) | (0xE3069283u << 17)) + 0xA282EAD8u);
}

TEST(Events, AFrameIsLengthChecksumDataChecksum) {
  const std::string frame = framed("hello");
  ASSERT_EQ(frame.size(), 8u + 4 + 5 + 4);
  EXPECT_EQ(frame.substr(0, 8), std::string("\x05\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(number_at<uint32_t>(frame, 8), masked_crc32c(frame.substr(0, 8)));
  EXPECT_EQ(frame.substr(12, 5), "hello");
  EXPECT_EQ(number_at<uint32_t>(frame, 17), masked_crc32c("hello"));
}

TEST(Events, TheVersionComesWithItsTime) {
  // wall_time = 1 (double, field 1) = 1.0; file_version (text, field 3).
  EXPECT_EQ(version_event(1.0), std::string("\x09\0\0\0\0\0\0\xF0\x3F\x1A\x0D"
                                            "brain.Event:2",
                                            24));
}

TEST(Events, AScalarHoldsTimeStepTagAndValue) {
  // wall_time; step (varint, field 2) = 300; summary (5) { value (1) { tag (1) "a", simple_value (2, float) 0.5 } }
  const std::string expected(
      "\x09\0\0\0\0\0\0\xF0\x3F\x10\xAC\x02\x2A\x0A\x0A\x08\x0A\x01"
      "a\x15\0\0\0\x3F",
      24);
  EXPECT_EQ(scalar_event("a", 300, 0.5f, 1.0), expected);
}

TEST(Events, ALongTagHasALengthOfTwoBytes) {
  const std::string tag(200, 't');
  std::string expected("\x0A\xC8\x01");
  expected += tag;
  EXPECT_TRUE(contains(scalar_event(tag, 1, 1.0f, 1.0), expected));
}

TEST(EventWriter, WritesTheVersionThenWhatItWasGiven) {
  const TemporaryFolder folder;
  EventWriter writer(folder / "", 1234.5);
  writer.scalar("train/loss", 7, 0.25, 1235.0);
  writer.flush();
  EXPECT_TRUE(writer.path().filename().string().starts_with("events.out.tfevents.1234."));
  const auto events = events_of(read_file(writer.path()));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0], version_event(1234.5));
  EXPECT_EQ(events[1], scalar_event("train/loss", 7, 0.25f, 1235.0));
}

TEST(EventWriter, TwoOfTheSameSecondDoNotShareAFile) {
  const TemporaryFolder folder;
  const EventWriter one(folder / "", 1.0), two(folder / "", 1.0);
  EXPECT_NE(one.path(), two.path());
}

TEST(EventWriter, AHistogramOfNothingIsLeftOut) {
  const TemporaryFolder folder;
  EventWriter writer(folder / "", 1.0);
  writer.histogram("sigma", 1, {0, -1, INFINITY}, 1.0);
  writer.flush();
  EXPECT_EQ(events_of(read_file(writer.path())).size(), 1u);
  writer.histogram("sigma", 2, {1, 10, 100}, 1.0);
  writer.histogram("sigma", 3, {5}, 1.0);  // no width
  writer.flush();
  const auto events = events_of(read_file(writer.path()));
  ASSERT_EQ(events.size(), 3u);
  // min, max, num, sum and sum of squares of 0, 1, 2.
  std::string fields;
  for (const auto& [field, value] : {std::pair{1, 0.0}, {2, 2.0}, {3, 3.0}, {4, 3.0}, {5, 5.0}}) {
    fields += static_cast<char>(field << 3 | 1);
    fields.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  EXPECT_TRUE(contains(events[1], fields));
}

TEST(EventWriter, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<Error>([&] { EventWriter(folder / "none", 1.0); }), "none"));
}

}  // namespace
}  // namespace schatten
