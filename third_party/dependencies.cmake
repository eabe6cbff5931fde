# How each dependency is found. Versions that are fetched stand in versions.env, reasons in README.md.
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/versions.env versions REGEX "^[A-Z]")
foreach(line ${versions})
  string(REGEX MATCH "^([A-Z0-9_]+)=(.*)$" _ "${line}")
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/versions.env)

if(DEFINED ENV{QUENCH_CACHE})
  set(QUENCH_CACHE $ENV{QUENCH_CACHE})
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(QUENCH_CACHE $ENV{XDG_CACHE_HOME}/quench)
else()
  set(QUENCH_CACHE $ENV{HOME}/.cache/quench)
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(ICU REQUIRED IMPORTED_TARGET icu-uc icu-i18n)
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg)
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng zlib)
pkg_check_modules(WEBP REQUIRED IMPORTED_TARGET libwebp)

include(${CMAKE_CURRENT_LIST_DIR}/libtorch.cmake)
set(QUENCH_SENTENCEPIECE_SOURCE ${QUENCH_CACHE}/sentencepiece-${SENTENCEPIECE_VERSION})
include(${CMAKE_CURRENT_LIST_DIR}/sentencepiece.cmake)

add_library(base_dependencies INTERFACE)
target_link_libraries(base_dependencies INTERFACE Threads::Threads nlohmann_json::nlohmann_json yaml-cpp
                      spdlog::spdlog CLI11::CLI11 PkgConfig::ICU PkgConfig::JPEG PkgConfig::PNG PkgConfig::WEBP
                      sentencepiece::static)
add_library(torch_dependencies INTERFACE)
target_link_libraries(torch_dependencies INTERFACE Threads::Threads nlohmann_json::nlohmann_json quench_libtorch)
