// Files that are complete or absent, and sizes that people can read.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace schatten {

/// The whole file; Error naming it and the reason when it cannot be read.
std::string read_file(const std::filesystem::path& path);
/// Temporary name beside it, fsync, rename, fsync of the folder. Nothing is left behind on failure.
void write_file_durably(const std::filesystem::path& path, std::string_view data);
void fsync_folder(const std::filesystem::path& folder);

std::string format_bytes(int64_t bytes);         // "128 MiB"
std::string format_count(int64_t count);         // "3.3 M"
std::string format_duration(double seconds);     // "1:12", "2:03:04"

}  // namespace schatten
