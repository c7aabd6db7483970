#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <schatten/core/tensor.h>
#include <schatten/engine/tasks.h>

#include <algorithm>
#include <atomic>

namespace schatten {

void run_tasks(std::vector<Task> tasks) {
  choose_vector_kernels();
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
  std::atomic<size_t> next{0};
  const auto work = [&](int64_t, int64_t) {
    // The body of parallel_for inherits neither: an in-place update of a leaf would throw on other threads.
    const at::NoGradGuard no_grad;
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    for (size_t i = next++; i < tasks.size(); i = next++) tasks[i].run();
  };
  const auto workers = std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(tasks.size()));
  if (workers > 0) at::parallel_for(0, workers, 1, work);
}

}  // namespace schatten
