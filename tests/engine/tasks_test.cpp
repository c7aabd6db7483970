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
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
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

/// The threads that ran some of many tasks.
std::set<std::thread::id> workers() {
  std::set<std::thread::id> seen;
  std::mutex one_at_a_time;
  std::vector<Task> tasks;
  for (int i = 0; i < 200; ++i)
    tasks.push_back({1.0, [&seen, &one_at_a_time] {
                       const Tensor work = at::ones({128, 128}).mm(at::ones({128, 128}));
                       const std::scoped_lock lock(one_at_a_time);
                       seen.insert(std::this_thread::get_id());
                     }});
  run_tasks(std::move(tasks));
  return seen;
}

// As under torchrun and in workers of a data loader, where torch is given one thread.
TEST(Tasks, OneThreadMeansTheCallersAlone) {
  const Threads one(1);
  EXPECT_EQ(workers(), std::set{std::this_thread::get_id()});
}

TEST(Tasks, NoMoreThreadsThanTorchHas) {
  for (const int threads : {2, 3}) {
    const Threads scope(threads);
    EXPECT_LE(workers().size(), static_cast<size_t>(threads));
  }
}

TEST(Tasks, ACallFromInsideAParallelRegionStaysOnItsThread) {
  const Threads two(2);
  std::atomic<int> calls{0};
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    EXPECT_EQ(workers(), std::set{std::this_thread::get_id()});
    ++calls;
  });
  EXPECT_EQ(calls, 2);
}

TEST(Tasks, WorkInsideATaskIsNotSpreadAgain) {
  const Threads two(2);
  std::atomic<int> spread{0};
  std::vector<Task> tasks;
  for (int i = 0; i < 8; ++i)
    tasks.push_back({1.0, [&spread] {
                       const auto here = std::this_thread::get_id();
                       at::parallel_for(0, 100, 1,
                                        [&](int64_t, int64_t) { spread += std::this_thread::get_id() != here; });
                     }});
  run_tasks(std::move(tasks));
  EXPECT_EQ(spread, 0);
}

/// Where a task ran, and how many threads worked inside.
struct Place {
  std::thread::id thread;
  size_t inside = 0;
  bool in_a_region = false;
};

Place place_here() {
  Place p{.thread = std::this_thread::get_id(), .in_a_region = at::in_parallel_region()};
  std::set<std::thread::id> seen;
  std::mutex one_at_a_time;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    const std::scoped_lock lock(one_at_a_time);
    seen.insert(std::this_thread::get_id());
  });
  p.inside = seen.size();
  return p;
}

/// `few` tasks that spread, `others` that do not; the places in the order in which tasks end. `longest`: cost of the first.
std::vector<std::pair<bool, Place>> places(int few, int others, double longest = 10) {
  std::vector<std::pair<bool, Place>> all;
  std::mutex one_at_a_time;
  std::vector<Task> tasks;
  for (int i = 0; i < few + others; ++i) {
    const bool spreads = i >= others;
    const auto run = [&all, &one_at_a_time, spreads] {
      const Place place = place_here();
      const std::scoped_lock lock(one_at_a_time);
      all.emplace_back(spreads, place);
    };
    tasks.push_back({!spreads ? 100.0 : i == others ? longest : 10.0, run, spreads});
  }
  run_tasks(std::move(tasks));
  return all;
}

TEST(Tasks, FewThatSpreadGetAllThreadsInsideOneAfterAnother) {
  const Threads four(4);
  const auto all = places(2, 5);
  ASSERT_EQ(all.size(), 7u);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& [spreads, place] = all[i];
    EXPECT_EQ(spreads, i < 2);  // they come first
    EXPECT_EQ(place.in_a_region, !spreads);
    EXPECT_EQ(place.inside, spreads ? 4u : 1u);
    EXPECT_TRUE(!spreads || place.thread == std::this_thread::get_id());
  }
}

TEST(Tasks, OneThatSpreadsNeedsTwoThreads) {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    for (const auto& [spreads, place] : places(1, 3)) EXPECT_EQ(place.inside, spreads ? size_t(threads) : 1u);
  }
}

TEST(Tasks, AsManyThatSpreadAsThreadsAreSerialInside) {
  for (const int few : {2, 3, 8}) {
    const Threads two(2);
    for (const double longest : {10.0, 1e9})
      for (const auto& [spreads, place] : places(few, 2, longest)) {
        EXPECT_TRUE(place.in_a_region);
        EXPECT_EQ(place.inside, 1u);
      }
  }
}

TEST(Tasks, NearlyAsManyThatSpreadAsThreadsAreSerialInside) {
  const Threads four(4);
  for (const auto& [spreads, place] : places(3, 2)) EXPECT_EQ(place.inside, 1u);
}

TEST(Tasks, InsideAParallelRegionNothingSpreads) {
  const Threads two(2);
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    for (const auto& [spreads, place] : places(1, 2)) EXPECT_EQ(place.inside, 1u);
  });
}

TEST(Tasks, InOrderMeansTheCallersThreadWithGradientsOff) {
  const Threads two(2);
  std::vector<int> begun;
  std::vector<Task> tasks;
  for (int i = 0; i < 20; ++i)
    tasks.push_back({static_cast<double>(i), [&begun, i, here = std::this_thread::get_id()] {
                       EXPECT_EQ(std::this_thread::get_id(), here);
                       EXPECT_FALSE(at::GradMode::is_enabled());
                       begun.push_back(i);
                     }});
  run_in_order(tasks);
  std::vector<int> expected(20);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(begun, expected);
  EXPECT_TRUE(at::GradMode::is_enabled());
}

}  // namespace
}  // namespace schatten
