# `cmake --install build --prefix DIR`, then find_package(Schatten) gives Schatten::schatten.
# One shared library made of all layers: what a C++ program links.
get_property(schatten_layers GLOBAL PROPERTY SCHATTEN_LAYERS)
add_library(schatten_shared SHARED "${CMAKE_BINARY_DIR}/pch/pch.cpp")
set_target_properties(schatten_shared PROPERTIES OUTPUT_NAME schatten)
foreach(layer ${schatten_layers})
  target_link_libraries(schatten_shared PRIVATE "$<LINK_LIBRARY:WHOLE_ARCHIVE,${layer}>")
endforeach()
target_link_libraries(schatten_shared PRIVATE Torch::torch)

install(FILES "$<TARGET_FILE:schatten_shared>" DESTINATION lib)
install(DIRECTORY schatten DESTINATION include FILES_MATCHING PATTERN "*.h" PATTERN "*_impl.h" EXCLUDE)
configure_file(cmake/SchattenConfig.cmake.in "${CMAKE_BINARY_DIR}/SchattenConfig.cmake" @ONLY)
install(FILES cmake/FindTorch.cmake "${CMAKE_BINARY_DIR}/SchattenConfig.cmake" DESTINATION lib/cmake/Schatten)
if(TARGET schatten)
  install(TARGETS schatten RUNTIME DESTINATION bin)
endif()
