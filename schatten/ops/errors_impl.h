// Errors in the words of whoever calls an operator; not public.
#pragma once
#include <c10/util/Exception.h>
#include <schatten/core/error.h>

#include <utility>

namespace schatten::ops {

/// Python's users expect a ValueError for what they got wrong.
template <class Work>
auto in_pythons_words(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const UsageError& error) {
    C10_THROW_ERROR(ValueError, error.what());
  }
}

}  // namespace schatten::ops
