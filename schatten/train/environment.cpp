#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <schatten/stages/spectral.h>
#include <schatten/train/environment.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <set>
#include <sstream>

namespace schatten {

namespace {

std::string cpu_field(const std::string& wanted) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(wanted)) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "";
}

Value instruction_sets() {
  std::istringstream flags(cpu_field("flags"));
  std::set<std::string> all;
  for (std::string f; flags >> f;) all.insert(f);
  Value found = Value::array();
  for (const char* f : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"})
    if (all.contains(f)) found.push_back(f);
  return found;
}

/// Two OpenMP runtimes in one process fight over the cores.
Value openmp_runtimes() {
  std::ifstream in("/proc/self/maps");
  std::set<std::string> seen;
  for (std::string line; std::getline(in, line);) {
    const size_t at = line.find('/');
    if (at == std::string::npos) continue;
    const std::string path = line.substr(at);
    for (const char* name : {"libgomp", "libiomp", "libomp"})
      if (path.substr(path.rfind('/') + 1).starts_with(name)) seen.insert(path);
  }
  Value paths = Value::array();
  for (const std::string& p : seen) paths.push_back(p);
  return paths;
}

}  // namespace

std::string schatten_version() { return SCHATTEN_VERSION; }

Value describe_environment() {
  utsname system{};
  ::uname(&system);
  return Value::Table{{"schatten", schatten_version()},
                      {"torch", TORCH_VERSION},
                      {"compiler", __VERSION__},
                      {"system", std::string(system.sysname) + " " + system.release},
                      {"host", system.nodename},
                      {"cpu", cpu_field("model name")},
                      {"instructions", instruction_sets()},
                      {"bfloat16", this_isa() >= Isa::avx512_bf16},
                      {"kernels", std::string(enum_name(this_isa()))},
                      {"threads", static_cast<int64_t>(at::get_num_threads())},
                      {"openmp", openmp_runtimes()},
                      {"memory_bytes", static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE)}};
}

double process_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

int64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace schatten
