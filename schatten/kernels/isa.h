// Which instructions the kernels use: a value that is passed on, so that one process can compare several.
#pragma once
#include <array>
#include <string_view>
#include <vector>

namespace schatten {

/// Each has all of those before it. `portable` is plain C++ and stands for every CPU that is not x86-64 with AVX2.
enum class Isa { portable, avx2, avx512, avx512_bf16, amx_bf16 };
constexpr auto enum_names(Isa) {
  return std::to_array<std::string_view>({"portable", "avx2", "avx512", "avx512_bf16", "amx_bf16"});
}

/// What this CPU (and operating system: AMX must be granted) can do, whatever the environment says.
Isa best_isa();
/// `best_isa()`, or less where the environment variable SCHATTEN_ISA names less. UsageError for an unknown name, and for
/// instructions that this CPU does not have.
Isa this_isa();
/// `asked` itself; UsageError in the name of `who` where this CPU, whose best is `best`, lacks it.
Isa checked_isa(Isa asked, std::string_view who, std::string_view way_out = "", Isa best = best_isa());
/// All that this CPU has, the least first.
std::vector<Isa> available_isas();

}  // namespace schatten
