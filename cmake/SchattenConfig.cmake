# find_package(Schatten) -> Schatten::schatten
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
include(CMakeFindDependencyMacro)
find_dependency(Torch MODULE)
if(NOT TARGET Schatten::schatten)
  get_filename_component(schatten_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
  add_library(Schatten::schatten SHARED IMPORTED)
  set_target_properties(Schatten::schatten PROPERTIES
    IMPORTED_LOCATION "${schatten_prefix}/lib/libschatten.so"
    INTERFACE_INCLUDE_DIRECTORIES "${schatten_prefix}/include"
    INTERFACE_COMPILE_FEATURES cxx_std_20)
  set_property(TARGET Schatten::schatten PROPERTY INTERFACE_LINK_LIBRARIES Torch::torch)
endif()
