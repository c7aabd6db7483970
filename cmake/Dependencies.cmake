# Third-party code: an installed package first, else fetched from its repository.
include(FetchContent)

function(schatten_dependency package target repository tag)
  find_package(${package} QUIET)
  if(NOT TARGET ${target})
    message(STATUS "${package} is not installed: fetching ${repository} at ${tag}")
    FetchContent_Declare(${package} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW TRUE SYSTEM)
    FetchContent_MakeAvailable(${package})
  endif()
endfunction()

set(INSTALL_GTEST OFF)
schatten_dependency(tomlplusplus tomlplusplus::tomlplusplus https://github.com/marzer/tomlplusplus v3.3.0)
schatten_dependency(nlohmann_json nlohmann_json::nlohmann_json https://github.com/nlohmann/json v3.11.2)
schatten_dependency(CLI11 CLI11::CLI11 https://github.com/CLIUtils/CLI11 v2.1.2)
if(SCHATTEN_TESTS)
  schatten_dependency(GTest GTest::gtest_main https://github.com/google/googletest release-1.12.1)
endif()
