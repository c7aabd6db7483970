// A child process: `schatten train` for one run.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace schatten {

class Process {
 public:
  /// Starts `words` with stdout and stderr in `log`; throws Error when it cannot be started. It dies with us.
  Process(const std::vector<std::string>& words, const std::filesystem::path& log);
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();  // a child that still runs is asked to stop, and waited for
  /// Exit code once it has ended (128 + signal when killed), without waiting.
  std::optional<int> poll();
  void interrupt() const;
  int wait();

 private:
  pid_t pid_ = -1;
};

}  // namespace schatten
