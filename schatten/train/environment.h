// What this machine is, and what the process used of it.
#pragma once
#include <schatten/core/value.h>

#include <cstdint>
#include <string>

namespace schatten {

/// schatten, torch, compiler, cpu, instructions, bfloat16, threads, openmp, host, memory_bytes.
Value describe_environment();
std::string schatten_version();
double process_cpu_seconds();
double unix_seconds();
int64_t peak_memory_bytes();

}  // namespace schatten
