#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "cli/schatten_main.h"

namespace {

/// libgomp reads its settings when it is loaded, so they are set for a second start of this program. By default its
/// threads spin for milliseconds at every barrier, which costs ten times the run and more as soon as anything else wants
/// a core; 5000 turns are as fast on a quiet machine.
void start_again_with_patient_threads(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  ::setenv("GOMP_SPINCOUNT", "5000", 0);
  ::execv("/proc/self/exe", argv);  // where that is not to be had the run is slower, not wrong
}

}  // namespace

int main(int argc, char** argv) {
  start_again_with_patient_threads(argv);
  std::error_code none;
  const std::string path = std::filesystem::read_symlink("/proc/self/exe", none).string();
  const char* const program[] = {path.c_str(), nullptr};
  return schatten_main(argc, argv, program);
}
