# LibTorch as one imported target, `quench_libtorch`. Its own package file demands a CUDA toolkit wherever LibTorch
# was built with CUDA; linking the libraries by name does not.
if(Torch_DIR)
  get_filename_component(torch_root ${Torch_DIR}/../../.. ABSOLUTE)
elseif(DEFINED ENV{Torch_DIR})
  get_filename_component(torch_root $ENV{Torch_DIR}/../../.. ABSOLUTE)
else()
  find_path(torch_include ATen/ATen.h PATHS ${QUENCH_CACHE}/libtorch-${LIBTORCH_VERSION}/torch/include
            NO_CMAKE_SYSTEM_PATH NO_SYSTEM_ENVIRONMENT_PATH)  # but CMAKE_PREFIX_PATH
  get_filename_component(torch_root ${torch_include}/.. ABSOLUTE)
endif()
if(NOT EXISTS ${torch_root}/include/ATen/ATen.h)
  message(FATAL_ERROR "LibTorch not found (looked in '${torch_root}'): run scripts/setup.sh, or set Torch_DIR to "
                      "<libtorch>/share/cmake/Torch, or CMAKE_PREFIX_PATH to <libtorch>")
endif()
message(STATUS "LibTorch: ${torch_root}")

add_library(quench_libtorch INTERFACE)
target_include_directories(quench_libtorch SYSTEM INTERFACE ${torch_root}/include
                           ${torch_root}/include/torch/csrc/api/include)
target_compile_options(quench_libtorch INTERFACE -fopenmp)
# Not libtorch.so, which does nothing but pull in libtorch_cuda.so: that is loaded at run time, where it can be
# (src/device).
set(torch_libraries ${torch_root}/lib/libtorch_cpu.so ${torch_root}/lib/libc10.so)
# LibTorch brings its own OpenMP runtime; a second one in the process would keep a second pool of threads.
file(GLOB torch_openmp ${torch_root}/lib/libgomp*.so* ${torch_root}/../torch.libs/libgomp*.so*)
if(NOT torch_openmp)
  set(torch_openmp gomp)
endif()
target_link_libraries(quench_libtorch INTERFACE -Wl,--no-as-needed ${torch_libraries} -Wl,--as-needed
                      ${torch_openmp} ${CMAKE_DL_LIBS})
target_link_options(quench_libtorch INTERFACE -Wl,--allow-shlib-undefined)
