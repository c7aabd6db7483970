// Tasks: every one runs, longest first, and an exception comes back.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <schatten/engine/tasks.h>
#include <support/threads.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace schatten {
namespace {

using at::Tensor;
using testing::Threads;

/// The order in which tasks of these costs begin.
std::vector<double> order_of(const std::vector<double>& costs) {
  std::vector<double> begun;
  std::mutex one_at_a_time;
  std::vector<Task> tasks;
  for (const double cost : costs)
    tasks.push_back({cost, [&begun, &one_at_a_time, cost] {
                       const std::scoped_lock lock(one_at_a_time);
                       begun.push_back(cost);
                     }});
  run_tasks(std::move(tasks));
  return begun;
}

TEST(Tasks, NoneIsFine) { run_tasks({}); }

TEST(Tasks, EachRunsOnce) {
  for (const int threads : {1, 2, 4}) {
    const Threads scope(threads);
    for (const size_t count : {1, 2, 3, 200}) {
      std::vector<std::atomic<int>> runs(count);
      std::vector<Task> tasks;
      for (size_t i = 0; i < count; ++i) tasks.push_back({static_cast<double>(i % 7), [&runs, i] { ++runs[i]; }});
      run_tasks(std::move(tasks));
      for (size_t i = 0; i < count; ++i) EXPECT_EQ(runs[i], 1) << i << " of " << count << ", threads " << threads;
    }
  }
}

TEST(Tasks, TheLongestIsFirst) {
  const Threads one(1);
  EXPECT_EQ(order_of({1, 5, 3, 5, 0, 4}), (std::vector<double>{5, 5, 4, 3, 1, 0}));
}

TEST(Tasks, EqualOnesKeepTheirOrder) {
  const Threads one(1);
  std::vector<int> begun;
  std::vector<Task> tasks;
  for (int i = 0; i < 50; ++i) tasks.push_back({1.0, [&begun, i] { begun.push_back(i); }});
  run_tasks(std::move(tasks));
  std::vector<int> expected(50);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(begun, expected);
}

TEST(Tasks, GradientsAreOffInsideAndAsBeforeOutside) {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    for (const bool outside : {true, false}) {
      const at::AutoGradMode mode(outside);
      std::atomic<int> on{0};
      std::vector<Task> tasks;
      for (int i = 0; i < 20; ++i) tasks.push_back({1.0, [&on] { on += at::GradMode::is_enabled(); }});
      run_tasks(std::move(tasks));
      EXPECT_EQ(on, 0);
      EXPECT_EQ(at::GradMode::is_enabled(), outside);
    }
  }
}

TEST(Tasks, WritesInsideAreNotCounted) {
  const Threads two(2);
  std::vector<Tensor> leaves;
  std::vector<uint32_t> versions;
  std::vector<Task> tasks;
  for (int i = 0; i < 8; ++i) {
    leaves.push_back(at::zeros({4}).requires_grad_(true));
    versions.push_back(leaves.back()._version());
    tasks.push_back({1.0, [w = leaves.back()] { w.add_(1); }});
  }
  run_tasks(std::move(tasks));
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_EQ(leaves[i]._version(), versions[i]);
    EXPECT_EQ(leaves[i].sum().item<double>(), 4);
  }
}

TEST(Tasks, AnExceptionComesBackAndTheQueueStaysUsable) {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    for (int attempt = 0; attempt < 20; ++attempt) {
      std::vector<Task> tasks;
      for (int i = 0; i < 16; ++i)
        tasks.push_back({static_cast<double>(i), [i] {
                           if (i == 9) throw std::runtime_error("nine");
                         }});
      try {
        run_tasks(std::move(tasks));
        FAIL() << "no exception, threads " << threads;
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "nine");
      }
      EXPECT_EQ(order_of({2, 1}).size(), 2u);
    }
  }
}

TEST(Tasks, TheFirstOfSeveralExceptionsComesBack) {
  const Threads one(1);
  std::vector<Task> tasks;
  for (const char* name : {"short", "long"})
    tasks.push_back({name == std::string("long") ? 2.0 : 1.0, [name] { throw std::runtime_error(name); }});
  try {
    run_tasks(std::move(tasks));
    FAIL() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "long");
  }
}

TEST(Tasks, NothingRunsOnAfterTheExceptionIsBack) {
  const Threads two(2);
  std::atomic<int> running{0};
  std::vector<Task> tasks;
  for (int i = 0; i < 40; ++i)
    tasks.push_back({static_cast<double>(40 - i), [&running, i] {
                       ++running;
                       const Tensor work = at::ones({64, 64}).mm(at::ones({64, 64}));
                       --running;
                       if (i == 0) throw std::runtime_error("first");
                     }});
  EXPECT_THROW(run_tasks(std::move(tasks)), std::runtime_error);
  EXPECT_EQ(running, 0);
}

}  // namespace
}  // namespace schatten
