// Tasks on torch's own pool: one matrix per task, longest first, serial inside.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace schatten {

struct Task {
  double cost = 0;  // predicted flops
  std::function<void()> run;
};

/// Runs all tasks, longest first from one queue. When one throws, its thread takes no more; the others go on with the
/// rest, and the first exception is thrown again when all have stopped.
/// Inside a task autograd is off and views skip version counting: whoever mutates a tensor bumps it once.
void run_tasks(std::vector<Task> tasks);

}  // namespace schatten
