// Tasks on torch's own pool: one matrix per thread and serial inside, or one after another and parallel inside.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace schatten {

struct Task {
  double cost = 0;  // predicted flops
  std::function<void()> run;
  bool spreads = false;  // large enough to use several threads inside, if it is given them
};

/// Runs all tasks, longest first from one queue. When one throws, its thread takes no more; the others go on with the
/// rest, and the first exception is thrown again when all have stopped.
/// Those that spread, where they are so much fewer than the threads that it pays, come first, one after another on the
/// caller's thread: it is outside of any parallel region then, and what they call may use all threads. In a queue of
/// several tasks it may not.
/// Inside a task autograd is off and views skip version counting: whoever mutates a tensor bumps it once.
void run_tasks(std::vector<Task> tasks);
/// The same on the caller's thread alone, in the order given: what only launches work on a device, in the caller's stream.
void run_in_order(const std::vector<Task>& tasks);

}  // namespace schatten
