// What the tests of this folder share.
#pragma once
#include <core/support.h>
#include <schatten/core/value.h>

#include <ostream>

namespace schatten {

/// GoogleTest would print the bytes.
inline void PrintTo(const Value& value, std::ostream* out) { *out << to_json(value); }

}  // namespace schatten
