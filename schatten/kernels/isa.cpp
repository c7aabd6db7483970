#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/kernels/isa.h>

#include <cstdlib>
#include <string>

#ifdef __x86_64__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace schatten {

namespace {

#ifdef __x86_64__
/// Linux grants the tile registers on request; threads that start later inherit them, those that run already have them.
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Isa detect() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::portable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
    return Isa::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return Isa::avx512;
  unsigned a = 7, b = 0, c = 0, d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));  // g++ 12 has no name for the two AMX bits
  const bool tiles = (d >> 22 & 1) && (d >> 24 & 1);
  return tiles && tiles_granted() ? Isa::amx_bf16 : Isa::avx512_bf16;
}
#else
Isa detect() { return Isa::portable; }
#endif

Isa limited() {
  const char* wish = std::getenv("SCHATTEN_ISA");
  if (!wish || !*wish) return best_isa();
  Isa isa{};
  read_field(Value(std::string(wish)), "environment", "SCHATTEN_ISA", isa);
  return checked_isa(isa, "SCHATTEN_ISA");
}

}  // namespace

Isa best_isa() {
  static const Isa best = detect();
  return best;
}

Isa this_isa() {
  static const Isa isa = limited();
  return isa;
}

Isa checked_isa(Isa asked, std::string_view who, std::string_view way_out, Isa best) {
  if (asked > best)
    fail_usage({std::string(who), "instructions that this CPU has (" + std::string(enum_name(best)) + " and less)",
                std::string(enum_name(asked)), std::string(way_out)});
  return asked;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> all;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) all.push_back(static_cast<Isa>(i));
  return all;
}

}  // namespace schatten
