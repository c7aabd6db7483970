#include <c10/core/ScalarType.h>
#include <schatten/core/files.h>
#include <schatten/stages/spectral.h>
#include <schatten/train/environment.h>

#include <cstdlib>
#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

namespace {

std::string joined(const Value& list) {
  std::string text;
  for (const Value& v : list.as_array()) text += (text.empty() ? "" : ", ") + v.as_string();
  return text.empty() ? "none" : text;
}

/// How long libgomp's threads spin at a barrier before they sleep (the program sets it before it starts).
std::string barrier_wait() {
  const char* spins = std::getenv("GOMP_SPINCOUNT");
  return spins ? std::string(", asleep after ") + spins + " turns at a barrier" : "";
}

void print(const Value& e) {
  const bool half = e.at("bfloat16").as_bool();
  const size_t runtimes = e.at("openmp").as_array().size();
  std::cout << "schatten      " << e.at("schatten").as_string() << ", torch " << e.at("torch").as_string() << ", g++ "
            << e.at("compiler").as_string() << "\n"
            << "cpu           " << e.at("cpu").as_string() << "\n"
            << "instructions  " << joined(e.at("instructions")) << "\n"
            << "bfloat16      " << (half ? "multiplied by the CPU" : "no instructions: would be emulated, slowly")
            << "\n"
            << "threads       " << e.at("threads").as_integer() << barrier_wait() << "\n"
            << "openmp        " << joined(e.at("openmp"))
            << (runtimes > 1 ? "   WARNING: two runtimes in one process fight over the cores" : "") << "\n"
            << "memory        " << format_bytes(e.at("memory_bytes").as_integer()) << "\n"
            << "chosen        Newton-Schulz in "
            << dtype_name(compute_dtype(ComputeDtype::automatic, c10::ScalarType::Float, this_isa()))
            << "; spectral power by four Cholesky inverses in float32 (optimizer.compute says otherwise)\n";
}

}  // namespace

void add_doctor(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("doctor", "this machine: torch, instructions, threads, and what will be chosen");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "as JSON");
  command->callback([json] {
    const Value environment = describe_environment();
    if (*json) std::cout << to_json(environment) << "\n";
    else print(environment);
  });
}

}  // namespace schatten::cli
