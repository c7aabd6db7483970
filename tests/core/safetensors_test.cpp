#include <ATen/ATen.h>
#include <schatten/core/files.h>
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstring>

#include "support.h"

namespace schatten {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::message_of;

const fs::path formats = fs::path(SCHATTEN_TEST_GOLDEN_DIR) / "formats";

std::string hex(const Tensor& tensor) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  const auto* bytes = static_cast<const unsigned char*>(tensor.const_data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

std::vector<int64_t> integers(const Value& list) {
  std::vector<int64_t> out;
  for (const Value& item : list.as_array()) out.push_back(item.as_integer());
  return out;
}

/// A file of a header and zeros.
fs::path made(const testing::TemporaryFolder& folder, const std::string& header, size_t data) {
  const uint64_t length = header.size();
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  write_file_durably(folder / "made.safetensors", text + header + std::string(data, '\0'));
  return folder / "made.safetensors";
}

std::string refusal(const std::string& header, size_t data) {
  const testing::TemporaryFolder folder;
  const fs::path path = made(folder, header, data);
  return message_of<Error>([&] { load_safetensors(path); });
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

TEST(Safetensors, ReadsOrRefusesEveryGoldenFile) {
  const Value index = parse_json(read_file(formats / "index.json"));
  int seen = 0;
  for (const Value& file : index.at("files").as_array()) {
    if (file.at("kind").as_string() != "safetensors") continue;
    const fs::path path = formats / file.at("path").as_string();
    ++seen;
    if (file.at("valid").is_string()) {
      try {
        load_safetensors(path);
      } catch (const Error&) {
      }
    } else if (file.at("valid").as_bool()) {
      EXPECT_NO_THROW(load_safetensors(path)) << path;
      EXPECT_NO_THROW(load_safetensors_header(path)) << path;
    } else {
      SCOPED_TRACE(path.string() + ": " + file.at("why").as_string());
      EXPECT_TRUE(contains(message_of<Error>([&] { load_safetensors(path); }), path.string()));
      EXPECT_TRUE(contains(message_of<Error>([&] { load_safetensors_header(path); }), path.string()));
    }
  }
  EXPECT_EQ(seen, 42);
}

TEST(Safetensors, EveryDtypeHasTheBytesOfTheReference) {
  const fs::path folder = formats / "safetensors";
  const Value expected = parse_json(read_file(folder / "all_dtypes.json"));
  const TensorFile file = load_safetensors(folder / "all_dtypes.safetensors");
  const TensorFile header = load_safetensors_header(folder / "all_dtypes.safetensors");
  EXPECT_EQ(file.tensors.size(), expected.at("tensors").as_table().size());
  for (const auto& [name, entry] : expected.at("tensors").as_table()) {
    EXPECT_EQ(hex(file.at(name)), entry.at("hex").as_string()) << name;
    EXPECT_EQ(file.at(name).sizes().vec(), integers(entry.at("shape"))) << name;
    EXPECT_TRUE(header.at(name).is_meta());
    EXPECT_EQ(header.at(name).sizes(), file.at(name).sizes());
    EXPECT_EQ(header.at(name).scalar_type(), file.at(name).scalar_type());
  }
  for (const auto& [key, text] : expected.at("metadata").as_table()) EXPECT_EQ(file.metadata.at(key), text.as_string());
  EXPECT_EQ(file.at("dtype.f32")[3].item<float>(), -1.5f);
  EXPECT_EQ(file.at("dtype.bf16").scalar_type(), at::kBFloat16);
}

TEST(Safetensors, WrittenFilesReadBackEqual) {
  const testing::TemporaryFolder folder;
  const TensorFile file = load_safetensors(formats / "safetensors" / "all_dtypes.safetensors");
  save_safetensors(folder / "a.safetensors", file);
  const TensorFile again = load_safetensors(folder / "a.safetensors");
  ASSERT_EQ(again.tensors.size(), file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_EQ(hex(again.at(name)), hex(tensor)) << name;
    EXPECT_EQ(again.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(again.at(name).sizes(), tensor.sizes()) << name;
  }
  EXPECT_EQ(again.metadata, file.metadata);
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Safetensors, BytesAreExact) {
  const testing::TemporaryFolder folder;
  TensorFile file;
  file.tensors.emplace_back("b", at::ones({3}, at::kByte));
  file.tensors.emplace_back("a", at::zeros({1}, at::kFloat));
  file.metadata["format"] = "pt";
  save_safetensors(folder / "f", file);
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::string length{static_cast<char>(header.size()), 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(read_file(folder / "f"), length + header + std::string(4, '\0') + "\x01\x01\x01");
}

TEST(Safetensors, WritesStridedAndEmptyTensors) {
  const testing::TemporaryFolder folder;
  const at::Tensor matrix = at::arange(6, at::kDouble).reshape({2, 3});
  TensorFile file;
  file.tensors = {{"t", matrix.t()}, {"e", at::empty({0, 4}, at::kDouble)}, {"s", matrix[1][2]}};
  save_safetensors(folder / "f", file);
  const TensorFile again = load_safetensors(folder / "f");
  EXPECT_TRUE(at::equal(again.at("t"), matrix.t()));
  EXPECT_EQ(again.at("e").sizes(), (at::IntArrayRef{0, 4}));
  EXPECT_EQ(again.at("s").item<double>(), 5);
  EXPECT_EQ(again.tensors[0].first, "t");
}

TEST(Safetensors, RefusesWhatCannotBeWritten) {
  const testing::TemporaryFolder folder;
  const at::Tensor x = at::zeros({1});
  const auto refused = [&](std::vector<std::pair<std::string, Tensor>> tensors) {
    return message_of<Error>([&] { save_safetensors(folder / "f", {std::move(tensors), {}}); });
  };
  EXPECT_TRUE(contains(refused({{"a", x}, {"a", x}}), "\"a\""));
  EXPECT_TRUE(contains(refused({{"__metadata__", x}}), "__metadata__"));
  EXPECT_TRUE(contains(refused({{"a", Tensor()}}), "dense"));
  EXPECT_TRUE(contains(refused({{"a", x.to(at::kMeta)}}), "dense"));
  EXPECT_TRUE(contains(refused({{"a", x.to(at::kComplexDouble)}}), "ComplexDouble"));
  EXPECT_EQ(folder.count(), 0u);
}

TEST(Safetensors, AFullDiskLeavesTheOldFile) {
  const testing::TemporaryFolder folder;
  TensorFile file;
  file.tensors.emplace_back("a", at::ones({100000}, at::kDouble));
  write_file_durably(folder / "f", "old");
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{65536, before.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = message_of<Error>([&] { save_safetensors(folder / "f", file); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_TRUE(contains(message, (folder / "f").string()));
  EXPECT_TRUE(contains(message, "File too large"));
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Safetensors, UnwritableAndMissingPathsAreNamed) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<Error>([&] { save_safetensors(folder / "no/f", {}); }), "no/f"));
  EXPECT_TRUE(contains(message_of<Error>([&] { load_safetensors(folder / "none"); }), "none"));
  EXPECT_TRUE(contains(message_of<Error>([&] { load_safetensors(folder / ""); }), "no such file"));
}

TEST(Safetensors, AbsentTensorsNameTheNearest) {
  TensorFile file;
  file.tensors.emplace_back("layers.0.weight", at::zeros({1}));
  EXPECT_EQ(file.find("x"), nullptr);
  EXPECT_TRUE(contains(message_of<Error>([&] { file.at("layers.0.wieght"); }), "There is \"layers.0.weight\""));
}

TEST(Safetensors, HostileSizesAreRefusedBeforeAllocation) {
  EXPECT_TRUE(contains(refusal(one("F32", "[4611686018427387904,4611686018427387904]", "[0,0]"), 0), "2^63"));
  EXPECT_TRUE(contains(refusal(one("F32", "[0,4611686018427387904,8]", "[0,0]"), 0), "2^63"));
  EXPECT_TRUE(contains(refusal(one("F32", "[1000000000000]", "[0,4000000000000]"), 4), "bytes of data"));
  EXPECT_TRUE(contains(refusal(one("U8", "[18446744073709551615]", "[0,18446744073709551615]"), 4), "whole"));
  std::string many = "[1";
  for (int i = 0; i < 100; ++i) many += ",1";
  EXPECT_TRUE(contains(refusal(one("U8", many + "]", "[0,1]"), 1), "64 dimensions"));
}

TEST(Safetensors, OddHeadersAreRefused) {
  EXPECT_TRUE(contains(refusal(one("F6_E2M3", "[4]", "[0,3]"), 3), "\"F6_E2M3\" for \"a\""));
  EXPECT_TRUE(contains(refusal(one("U8", "[1]", "[0,1]") + std::string("\0x", 2), 1), "NUL"));
  EXPECT_TRUE(contains(refusal(R"({"a":1})", 0), "a table for \"a\""));
  EXPECT_TRUE(contains(refusal(R"({"a":{"dtype":3,"shape":[],"data_offsets":[0,1]}})", 1), "a dtype"));
  EXPECT_TRUE(contains(refusal(one("U8", "[true]", "[0,1]"), 1), "got true"));
}

TEST(Safetensors, NamesAreSafeToPrint) {
  const std::string message = refusal(R"({"\u001b[31mred":1})", 0);
  EXPECT_FALSE(contains(message, "\x1b"));
}

TEST(Safetensors, BooleansAreZeroOrOne) {
  const testing::TemporaryFolder folder;
  const fs::path path = made(folder, one("BOOL", "[2]", "[0,2]"), 0);
  write_file_durably(path, read_file(path) + std::string("\xff\x00", 2));
  EXPECT_EQ(hex(load_safetensors(path).at("a")), "0100");
}

}  // namespace
}  // namespace schatten
