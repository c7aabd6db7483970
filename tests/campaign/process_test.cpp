// Child processes: what they leave, how they end, and that none outlives its campaign.
#include <core/support.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <schatten/campaign/process.h>
#include <schatten/core/files.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

Process shell(const std::string& script, const std::filesystem::path& log) {
  return Process({"/bin/sh", "-c", script}, log);
}

TEST(Process, ItsWordsGoToTheLogAndItsCodeComesBack) {
  const TemporaryFolder folder;
  EXPECT_EQ(shell("read line; echo out; echo err >&2; exit 3", folder / "log").wait(), 3);  // nothing to read: no wait
  EXPECT_EQ(read_file(folder / "log"), "out\nerr\n");
}

TEST(Process, AProgramThatIsNotThereIsAnError) {
  const TemporaryFolder folder;
  const std::string message = message_of<Error>([&] { Process({"/no/such/program"}, folder / "log"); });
  EXPECT_TRUE(contains(message, "/no/such/program"));
  EXPECT_TRUE(contains(message, "No such file"));
  EXPECT_TRUE(contains(message_of<Error>([&] { shell("true", (folder / "none") / "log"); }), "No such file"));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // and nothing is left of the attempts
}

TEST(Process, AnInterruptedOneHasTheCodeOfItsSignal) {
  const TemporaryFolder folder;
  Process process = shell("exec sleep 100", folder / "log");
  EXPECT_FALSE(process.poll());
  process.interrupt();
  EXPECT_EQ(process.wait(), 128 + SIGINT);
}

TEST(Process, DiesWithTheOneThatStartedIt) {
  const TemporaryFolder folder;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t campaign = ::fork();
  if (campaign == 0) {
    ::close(ends[0]);
    const Process run = shell("exec sleep 20", folder / "log");  // holds the other end of the pipe open
    ::kill(::getpid(), SIGKILL);
  }
  ::close(ends[1]);
  pollfd last_holder{.fd = ends[0], .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&last_holder, 1, 10'000), 1);  // hung up at once, not when the sleep ends
  EXPECT_TRUE(last_holder.revents & POLLHUP);
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(campaign, &status, 0), campaign);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

}  // namespace
}  // namespace schatten
