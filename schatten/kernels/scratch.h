// Scratch memory of the kernels: one growing arena per thread, so that a step allocates nothing once it is warm.
#pragma once
#include <cstddef>
#include <cstdint>

namespace schatten {

/// Takes from this thread's arena and gives all of it back at the end of its scope; scopes nest. Memory is aligned to
/// 64 bytes and holds whatever was there. What one scope took is at most what the arena will hold from then on.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* take(int64_t count) {
    return static_cast<T*>(bytes(static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  void* bytes(size_t size);
  size_t block_, used_;  // where the arena stood when this scope began
};

/// Bytes that this thread's arena holds, for tests and reports.
size_t scratch_bytes();

}  // namespace schatten
