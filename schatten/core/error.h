// Errors: who, expected, got, and the way out. Commands print them and map them to exit codes.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

namespace schatten {

/// Something went wrong while working (exit code 1).
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user asked for something that cannot be: config, option, command line (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The parts of a message. `way_out` may be empty.
struct Complaint {
  std::string who;
  std::string expected;
  std::string got;
  std::string way_out;
};

/// "[who] expected ..., got ...\n  way out" (at most four lines).
std::string to_string(const Complaint& complaint);

[[noreturn]] void fail(const Complaint& complaint);        // throws Error
[[noreturn]] void fail_usage(const Complaint& complaint);  // throws UsageError

}  // namespace schatten
