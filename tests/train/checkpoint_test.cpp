// A checkpoint is complete or absent.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/core/files.h>
#include <schatten/train/checkpoint.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <set>

#include "support.h"

namespace schatten {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

Checkpoint checkpoint(int64_t step, int64_t entries = 6) {
  const Tensor w = at::arange(entries, at::kFloat) + static_cast<double>(step);
  return {.step = step,
          .model = {.tensors = {{"w", w}}},
          .optimizer = {.tensors = {{"w/ema/momentum_buffer", w * 2}, {"w/step", at::full({}, step, at::kLong)}}},
          .model_config = Value::Table{{"model_type", "llama"}},
          .state = Value::Table{{"position", 7 * step}}};
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

using Names = std::set<std::string>;

class CheckpointTest : public ::testing::Test {
 protected:
  fs::path run() const { return folder_ / "run"; }
  fs::path all() const { return run() / "checkpoints"; }
  fs::path save(int64_t step, int64_t keep = 10) const { return save_checkpoint(run(), checkpoint(step), keep); }

 private:
  TemporaryFolder folder_;
};

TEST_F(CheckpointTest, ComesBackAsItWas) {
  const fs::path folder = save(5);
  EXPECT_EQ(folder, all() / "step-5");
  EXPECT_EQ(names_in(folder), (Names{"model.safetensors", "optimizer.safetensors", "config.json", "state.json"}));
  const Checkpoint read = load_checkpoint(folder), wrote = checkpoint(5);
  EXPECT_EQ(read.step, 5);
  EXPECT_TRUE(at::equal(read.model.at("w"), wrote.model.at("w")));
  for (const auto& [name, tensor] : wrote.optimizer.tensors)
    EXPECT_TRUE(at::equal(read.optimizer.at(name), tensor)) << name;
  EXPECT_EQ(read.state.integer_or("position", -1), 35);
  EXPECT_EQ(read.model_config, wrote.model_config);
}

TEST_F(CheckpointTest, TheNewestIsTheHighestStep) {
  EXPECT_FALSE(latest_checkpoint(run()));
  for (const int64_t step : {9, 100, 10}) save(step);  // as text, step-9 comes last
  EXPECT_EQ(latest_checkpoint(run()), all() / "step-100");
}

TEST_F(CheckpointTest, OtherNamesAreNoCheckpoints) {
  save(1);
  for (const char* name : {"step-", "step-x", "step-7x", "step--7", "other", ".step-8"})
    fs::create_directory(all() / name);
  std::ofstream(all() / "step-9") << "a file";
  EXPECT_EQ(latest_checkpoint(run()), all() / "step-1");
}

TEST_F(CheckpointTest, AHalfWrittenFolderIsIgnoredAndRemovedByTheNextSave) {
  save(1);
  for (const char* name : {".step-2", ".old-step-0"}) {
    fs::create_directory(all() / name);
    std::ofstream(all() / name / "model.safetensors") << "half";
  }
  EXPECT_EQ(latest_checkpoint(run()), all() / "step-1");
  save(2);
  EXPECT_EQ(names_in(all()), (Names{"step-1", "step-2"}));
  EXPECT_EQ(load_checkpoint(all() / "step-2").step, 2);
}

TEST_F(CheckpointTest, TheNewestStayAndOneAlwaysDoes) {
  for (int64_t step = 1; step <= 12; ++step) save(step, 2);
  EXPECT_EQ(names_in(all()), (Names{"step-11", "step-12"}));
  save(13, 0);
  EXPECT_EQ(names_in(all()), (Names{"step-13"}));
}

TEST_F(CheckpointTest, TheSameStepAgainReplacesTheOld) {
  save(4);
  Checkpoint other = checkpoint(4);
  other.state["position"] = 1000;
  save_checkpoint(run(), other, 10);
  EXPECT_EQ(names_in(all()), (Names{"step-4"}));
  EXPECT_EQ(load_checkpoint(all() / "step-4").state.integer_or("position", -1), 1000);
}

TEST_F(CheckpointTest, AnotherVersionIsRefused) {
  const fs::path folder = save(1);
  Value state = parse_json(read_file(folder / "state.json"));
  state["version"] = 2;
  std::ofstream(folder / "state.json") << to_json(state);
  const std::string message = message_of<Error>([&] { load_checkpoint(folder); });
  EXPECT_TRUE(contains(message, "step-1"));
  EXPECT_TRUE(contains(message, "version 1"));
  EXPECT_TRUE(contains(message, "version 2"));
}

TEST_F(CheckpointTest, AMissingOrCutFileIsNamed) {
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "config.json", "state.json"}) {
    const fs::path folder = save(1);
    fs::resize_file(folder / name, fs::file_size(folder / name) / 2);
    EXPECT_TRUE(contains(message_of<Error>([&] { load_checkpoint(folder); }), name)) << "cut";
    fs::remove(folder / name);
    EXPECT_TRUE(contains(message_of<Error>([&] { load_checkpoint(folder); }), name)) << "missing";
  }
}

/// No file of this process grows beyond `bytes`: what a full disk looks like from here.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(CheckpointTest, AFailingWriteLeavesTheOlderOneAndNothingElse) {
  save(1, 1);
  for (const int64_t step : {1, 2}) {  // the same step again must not lose the first either
    const SmallDisk disk(4096);
    const std::string message = message_of<Error>([&] { save_checkpoint(run(), checkpoint(step, 100'000), 1); });
    EXPECT_TRUE(contains(message, "model.safetensors"));
  }
  EXPECT_EQ(names_in(all()), (Names{"step-1"}));
  EXPECT_TRUE(at::equal(load_checkpoint(all() / "step-1").model.at("w"), checkpoint(1).model.at("w")));
  save(2, 1);
  EXPECT_EQ(names_in(all()), (Names{"step-2"}));
}

}  // namespace
}  // namespace schatten
