# One folder, one target, one layer; the link lines below are the dependency graph.

# Aggregates with defaulted members are our named arguments: naming only some is the point.
set(SCHATTEN_WARNINGS -Wall -Wextra -Wpedantic -Werror -Wno-missing-field-initializers)

# What every target of ours compiles with. One precompiled header serves all: ATen.h costs 8 s to parse.
function(schatten_target name)
  target_compile_options(${name} PRIVATE ${SCHATTEN_WARNINGS})
  target_link_libraries(${name} PRIVATE Torch::torch)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_precompile_headers(${name} REUSE_FROM schatten_pch)
endfunction()

file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/pch/pch.cpp" CONTENT "")  # kept as it is when it is there
add_library(schatten_pch STATIC "${CMAKE_BINARY_DIR}/pch/pch.cpp")
target_compile_options(schatten_pch PRIVATE ${SCHATTEN_WARNINGS})
target_link_libraries(schatten_pch PRIVATE Torch::torch)
target_include_directories(schatten_pch PRIVATE "${PROJECT_SOURCE_DIR}")
target_precompile_headers(schatten_pch PRIVATE <ATen/ATen.h> <filesystem> <functional> <map> <string> <vector>)

function(schatten_layer name)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/schatten/${name}/*.cpp")
  add_library(schatten_${name} STATIC ${sources} "${CMAKE_BINARY_DIR}/pch/pch.cpp")
  schatten_target(schatten_${name})
  target_include_directories(schatten_${name} PUBLIC
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>" "$<INSTALL_INTERFACE:include>")
  target_link_libraries(schatten_${name} PUBLIC Torch::torch)
  foreach(below ${ARGN})
    target_link_libraries(schatten_${name} PUBLIC schatten_${below})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY SCHATTEN_LAYERS schatten_${name})
endfunction()
