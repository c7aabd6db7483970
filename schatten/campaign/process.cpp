#include <fcntl.h>
#include <schatten/campaign/process.h>
#include <schatten/core/error.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace schatten {

namespace {

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

/// Between fork and exec: nothing here may allocate. Comes back only when it failed, with errno set.
void become(char* const* words, const char* log, pid_t parent) {
  ::setpgid(0, 0);  // a group of its own: Ctrl-C reaches the children through us, once
  // Without us nobody would stop it, and the same command, given again, would meet it in its run directory.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(128 + SIGKILL);
  const int in = ::open("/dev/null", O_RDONLY), out = ::open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (in < 0 || out < 0) return;
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  ::execv(words[0], words);
}

}  // namespace

Process::Process(const std::vector<std::string>& words, const std::filesystem::path& log) {
  std::vector<char*> arguments;
  for (const std::string& w : words) arguments.push_back(const_cast<char*>(w.c_str()));
  arguments.push_back(nullptr);
  int ends[2];  // closed by exec; what comes through is the reason why there was none
  if (::pipe2(ends, O_CLOEXEC) != 0) fail({words[0], "to be started", std::strerror(errno), ""});
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    become(arguments.data(), log.c_str(), parent);
    const int reason = errno;
    static_cast<void>(!::write(ends[1], &reason, sizeof reason));
    ::_exit(127);
  }
  int error = pid_ < 0 ? errno : 0;
  ::close(ends[1]);
  if (pid_ > 0 && ::read(ends[0], &error, sizeof error) > 0) wait();
  ::close(ends[0]);
  if (error != 0) fail({words[0], "to be started", std::strerror(error), ""});
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
Process& Process::operator=(Process&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

Process::~Process() {
  if (pid_ < 0) return;
  interrupt();
  wait();
}

std::optional<int> Process::poll() {
  int status = 0;
  if (pid_ < 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  return exit_code(status);
}

void Process::interrupt() const {
  if (pid_ > 0) ::kill(pid_, SIGINT);
}

int Process::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return exit_code(status);
}

}  // namespace schatten
