// Range checks of options, with one wording.
#pragma once
#include <string_view>

namespace schatten {

void check_share(std::string_view who, std::string_view key, double value);         // [0, 1)
void check_positive(std::string_view who, std::string_view key, double value);      // > 0, finite
void check_non_negative(std::string_view who, std::string_view key, double value);  // >= 0, finite

}  // namespace schatten
