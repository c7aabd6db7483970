# Finds the torch wheel of a given Python, without torch's own package files: those fail on a CUDA
# wheel where no toolkit is installed, and only torch_cpu and c10 are wanted.
#   in:  SCHATTEN_PYTHON (a python that can import torch), SCHATTEN_ANY_TORCH
#   out: target Torch::torch, TORCH_VERSION, TORCH_PACKAGE_DIR
set(SCHATTEN_TORCH_SERIES "2.13")
set(torch_way_out "`make` installs it, or pass -DSCHATTEN_PYTHON=/path/to/python.")
if(SKBUILD)  # pip builds: the Python that runs it is the one
  set(SCHATTEN_PYTHON "${Python3_EXECUTABLE}" CACHE STRING "a Python that can import torch" FORCE)
  set(torch_way_out "Install torch first, then type: pip install --no-build-isolation .")
endif()
set(SCHATTEN_PYTHON "python3" CACHE STRING "a Python that can import torch")
option(SCHATTEN_ANY_TORCH "accept a torch other than ${SCHATTEN_TORCH_SERIES}" OFF)

function(ask_torch)
  execute_process(
    COMMAND "${SCHATTEN_PYTHON}" ${ARGN} -c
            "import torch, os; print(torch.__version__); print(os.path.dirname(torch.__file__)); print(int(torch._C._GLIBCXX_USE_CXX11_ABI))"
    OUTPUT_VARIABLE facts ERROR_VARIABLE trouble RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(torch_facts "${facts}" PARENT_SCOPE)
  set(torch_trouble "${trouble}" PARENT_SCOPE)
  set(torch_failed "${failed}" PARENT_SCOPE)
endfunction()

ask_torch()
if(torch_failed AND SKBUILD)  # pip hides what is installed behind PYTHONPATH; the torch that will be used is behind it
  ask_torch(-E)
endif()
if(torch_failed)
  message(FATAL_ERROR "[FindTorch] expected '${SCHATTEN_PYTHON}' to import torch ${SCHATTEN_TORCH_SERIES}, got:\n"
                      "${torch_trouble}\n  ${torch_way_out}")
endif()
string(REPLACE "\n" ";" torch_facts "${torch_facts}")
list(GET torch_facts 0 TORCH_VERSION)
list(GET torch_facts 1 TORCH_PACKAGE_DIR)
list(GET torch_facts 2 torch_cxx11_abi)

if(NOT TORCH_VERSION MATCHES "^2\\.13\\." AND NOT SCHATTEN_ANY_TORCH)
  message(FATAL_ERROR "[FindTorch] expected torch ${SCHATTEN_TORCH_SERIES}, got torch ${TORCH_VERSION} in ${TORCH_PACKAGE_DIR}.\n"
                      "  Install torch==${SCHATTEN_TORCH_SERIES}.0, or pass -DSCHATTEN_ANY_TORCH=ON at your own risk.")
endif()
if(NOT torch_cxx11_abi)
  message(FATAL_ERROR "[FindTorch] expected a torch built with the C++11 ABI, got one without (${TORCH_PACKAGE_DIR}).")
endif()

if(NOT TARGET Torch::torch)
  add_library(Torch::torch INTERFACE IMPORTED)
  target_include_directories(Torch::torch SYSTEM INTERFACE
    "${TORCH_PACKAGE_DIR}/include" "${TORCH_PACKAGE_DIR}/include/torch/csrc/api/include")
  target_link_libraries(Torch::torch INTERFACE "${TORCH_PACKAGE_DIR}/lib/libtorch_cpu.so" "${TORCH_PACKAGE_DIR}/lib/libc10.so")
  # The wheel's libgomp is the one OpenMP runtime; without the flag at::parallel_for is serial.
  target_compile_options(Torch::torch INTERFACE -fopenmp)
  target_link_options(Torch::torch INTERFACE -fopenmp "LINKER:--disable-new-dtags")
  if(NOT SKBUILD)
    target_link_options(Torch::torch INTERFACE "LINKER:-rpath,${TORCH_PACKAGE_DIR}/lib")
  endif()
endif()
set(Torch_FOUND TRUE)
