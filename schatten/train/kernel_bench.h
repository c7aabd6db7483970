// `schatten bench`: what the kernels reach on this machine, beside ATen and beside the machine's own peaks.
#pragma once
#include <schatten/core/value.h>
#include <schatten/kernels/isa.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace schatten {

struct MatrixShape {
  int64_t rows = 0, cols = 0;
};
/// From "768x3072"; UsageError for anything else, and for sides beyond 16384.
MatrixShape parse_matrix_shape(const std::string& text);
/// "" is this_isa(); UsageError for an unknown name, and for instructions that this CPU does not have.
Isa parse_isa(const std::string& text);

struct KernelBenchOptions {
  std::vector<MatrixShape> shapes;  // empty: a square one, LLaMA-60M's and GPT-2's long one
  double seconds = 0.1;             // that each side of a row is timed for
  int64_t threads = 1;              // each works on a matrix of its own, as the optimizer's tasks do
  Isa isa = Isa::portable;          // of our side; ATen goes by its own environment
};

/// The roofline, of all threads together: the best that ATen's `mm` reached over some sizes, in operations per second,
/// and the best of copy, triad (a = b + s c) and scaling in place over memory, in bytes per second.
struct Peaks {
  double float32 = 0, bfloat16 = 0;
  double copy = 0, triad = 0, scale = 0;
  double bandwidth() const;
  Value to_value() const;
};
Peaks measure_peaks(const KernelBenchOptions& options);

/// One kernel on one shape. Times are the best of many rounds, both sides in turns.
struct KernelRow {
  std::string kernel, dtype, against;  // against: what ATen's side was
  MatrixShape shape;
  int64_t threads = 1;
  double seconds = 0, aten_seconds = 0;
  double predicted = 0;   // seconds that the plan goes by; 0 where there is none
  double operations = 0;  // as the textbook counts them (symmetric products in full); 0 for passes over memory
  double bound = 0;       // seconds that the roofline allows for the operations that are needed, or the bytes
  double error = 0;       // relative Frobenius, against the same in float64
  double gflops() const { return static_cast<double>(threads) * operations / seconds * 1e-9; }
  double ns_per_entry() const;
  double of_roofline() const { return bound / seconds; }
  double ratio() const { return aten_seconds / seconds; }
  Value to_value() const;
};
/// All kernels on all shapes, then the passes over long vectors; `done` sees each row as it is measured.
void measure_kernels(const KernelBenchOptions& options, const Peaks& peaks,
                     const std::function<void(const KernelRow&)>& done);

/// What Newton-Schulz would do with a shape: every way for every dtype, the chosen one first.
Value describe_plans(MatrixShape shape, Isa isa);

/// Text of the above, for `width` columns.
std::string format_peaks(const Peaks& peaks, const KernelBenchOptions& options);
std::string format_kernel_header(int width);
/// "768 x 3072": stands above the rows of a shape.
std::string format_kernel_heading(const KernelRow& row);
std::string format_kernel_row(const KernelRow& row, int width);
std::string format_kernel_footer(int width);
std::string format_plans(const Value& plans);
std::string plans_footer();

}  // namespace schatten
