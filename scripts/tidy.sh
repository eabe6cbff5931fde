#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over the rooms that need no LibTorch, whose headers would take it ten seconds a file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=third_party/versions.env
source third_party/versions.env
sentencepiece=${QUENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quench}/sentencepiece-$SENTENCEPIECE_VERSION/sentencepiece
includes=(-Isrc -isystem build/third_party/sentencepiece/include -isystem "$sentencepiece/src/builtin_pb"
  -isystem "$sentencepiece/third_party/protobuf-lite")
for library in libpng libwebp icu-uc; do
  for flag in $(pkg-config --cflags-only-I "$library"); do includes+=("$flag"); done
done
# shellcheck disable=SC2016  # the inner shell expands it
find src/base src/config src/data src/report src/io/appended_file.cpp src/io/atomic_file.cpp src/io/file_lock.cpp \
  src/io/make_once.cpp src/io/mapped_file.cpp \
  -name '*.cpp' -print0 |
  INCLUDES="${includes[*]}" xargs -0 -n 4 -P "$(nproc)" bash -c \
    'read -r -a flags <<<"$INCLUDES"; clang-tidy --quiet "$@" -- -std=c++20 "${flags[@]}"' tidy
