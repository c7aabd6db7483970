// A folder of one's own, and the message of the error that something must throw.
#pragma once
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace schatten::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = ::testing::TempDir() + "schatten-core-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  size_t count() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {})); }

 private:
  std::filesystem::path path_;
};

/// The text of the E (exactly) that `act` throws; "" and a failed test when it throws another or
/// none.
template <class E, class Act>
std::string message_of(Act act) {
  try {
    act();
  } catch (const E& e) {
    EXPECT_TRUE(typeid(e) == typeid(E)) << e.what();
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another error: " << e.what();
    return "";
  }
  ADD_FAILURE() << "no error";
  return "";
}

inline ::testing::AssertionResult contains(const std::string& text, std::string_view part) {
  if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << '"' << text << "\" lacks \"" << part << '"';
}

}  // namespace schatten::testing
