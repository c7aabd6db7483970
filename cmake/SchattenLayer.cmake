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

# Code for one instruction set lies in files named after it; `this_isa()` decides at run time which is called. Such files
# include nothing with inline functions that other files share: the linker could keep the copy for the wrong CPU.
function(schatten_instruction_sets name)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
  endif()
  set(avx2 -mavx2 -mfma -mf16c)
  set(own_header -Wno-uninitialized -Wno-maybe-uninitialized)  # g++ 12 warns of its own AVX-512 header
  set(avx512 ${avx2} ${own_header} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
  set(avx512_bf16 ${avx512} -mavx512bf16)
  set(amx_bf16 ${avx512_bf16} -mamx-tile -mamx-bf16)
  foreach(isa avx2 avx512 avx512_bf16 amx_bf16)
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/schatten/${name}/*_${isa}.cpp")
    if(isa STREQUAL "avx512")
      list(FILTER sources EXCLUDE REGEX "_bf16")
    endif()
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "-O3;${${isa}}" SKIP_PRECOMPILE_HEADERS ON)
  endforeach()
endfunction()
