# sentencepiece 0.2.0, built from its source release as one static target: sentencepiece::static.
#
# Not the distribution's shared library: it and libc10 both export FLAGS_minloglevel, with different types, and one
# overwrites the other's memory. So: hidden visibility, its flag renamed, and the abseil and protobuf-lite that the
# release bundles. QUENCH_SENTENCEPIECE_SOURCE is the folder that sentencepiece-0.2.0.tar.gz unpacks to.

if(NOT EXISTS "${QUENCH_SENTENCEPIECE_SOURCE}/sentencepiece/src/sentencepiece_trainer.h")
  message(FATAL_ERROR "QUENCH_SENTENCEPIECE_SOURCE (\"${QUENCH_SENTENCEPIECE_SOURCE}\") is not the unpacked source "
                      "release of sentencepiece 0.2.0; scripts/setup.sh fetches it.")
endif()

function(quench_add_sentencepiece)
  set(SPM_ENABLE_SHARED OFF)
  set(SPM_ENABLE_TCMALLOC OFF)
  set(CMAKE_POLICY_DEFAULT_CMP0063 NEW)  # let static libraries be hidden, too
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)  # let its options take the values above
  set(CMAKE_POLICY_VERSION_MINIMUM 3.5)  # it asks for 3.1, which CMake 4 no longer knows
  set(CMAKE_WARN_DEPRECATED OFF)
  set(CMAKE_MESSAGE_LOG_LEVEL WARNING)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    set(CMAKE_BUILD_TYPE Release)  # a debug build of the trainer is 20 times slower and helps nobody here
  endif()
  string(APPEND CMAKE_CXX_FLAGS " -DFLAGS_minloglevel=spm_FLAGS_minloglevel")
  set(binary_dir "${CMAKE_BINARY_DIR}/third_party/sentencepiece")
  add_subdirectory("${QUENCH_SENTENCEPIECE_SOURCE}/sentencepiece" "${binary_dir}" EXCLUDE_FROM_ALL)
  foreach(target sentencepiece-static sentencepiece_train-static)
    target_compile_options(${target} PRIVATE -w)
  endforeach()

  # Only the two public headers: its source folder also holds a util.h and a common.h. And the model's own format.
  foreach(header sentencepiece_processor.h sentencepiece_trainer.h)
    configure_file("${QUENCH_SENTENCEPIECE_SOURCE}/sentencepiece/src/${header}" "${binary_dir}/include/${header}"
                   COPYONLY)
  endforeach()
  add_library(quench_sentencepiece INTERFACE)
  target_include_directories(quench_sentencepiece SYSTEM INTERFACE "${binary_dir}/include"
    "${QUENCH_SENTENCEPIECE_SOURCE}/sentencepiece/src/builtin_pb"
    "${QUENCH_SENTENCEPIECE_SOURCE}/sentencepiece/third_party/protobuf-lite")
  target_link_libraries(quench_sentencepiece INTERFACE sentencepiece_train-static sentencepiece-static)
  target_link_options(quench_sentencepiece INTERFACE
    "$<$<PLATFORM_ID:Linux>:LINKER:--exclude-libs=libsentencepiece.a,--exclude-libs=libsentencepiece_train.a>")
  add_library(sentencepiece::static ALIAS quench_sentencepiece)
endfunction()
quench_add_sentencepiece()
