# Where the parts find each other is the same before and after the installation: nothing is linked again, no path is patched.
set_target_properties(schatten_shared schatten PROPERTIES BUILD_WITH_INSTALL_RPATH ON)

# A wheel holds the library alone, two folders away from torch's; neither knows where the other was built.
if(SKBUILD)
  set_target_properties(schatten_shared PROPERTIES INSTALL_RPATH "$ORIGIN/../../torch/lib")
  install(TARGETS schatten_shared LIBRARY DESTINATION schatten/lib COMPONENT python)
  return()
endif()

# `cmake --install build --prefix DIR`, then find_package(Schatten) gives Schatten::schatten.
set_target_properties(schatten PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/../lib")
install(TARGETS schatten_shared LIBRARY DESTINATION lib)
install(TARGETS schatten RUNTIME DESTINATION bin)
install(DIRECTORY schatten DESTINATION include FILES_MATCHING PATTERN "*.h" PATTERN "*_impl.h" EXCLUDE)
configure_file(cmake/SchattenConfig.cmake.in "${CMAKE_BINARY_DIR}/SchattenConfig.cmake" @ONLY)
install(FILES cmake/FindTorch.cmake "${CMAKE_BINARY_DIR}/SchattenConfig.cmake" DESTINATION lib/cmake/Schatten)
