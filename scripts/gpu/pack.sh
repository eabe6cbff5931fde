#!/usr/bin/env bash
# Builds quench, its test programs and its benches against a CUDA LibTorch, for which neither a GPU nor a CUDA toolkit is
# needed, and writes one folder with all that scripts/gpu/check.sh needs on a machine with a GPU and no network
# (docs/gpu.md). Usage: pack.sh [FOLDER], by default build/gpu. Run again, it redoes what has changed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/cuda
folder=$(realpath -m "${1:-$root/build/gpu}")
limit=$((55 << 20))  # bytes
tests=(nn attention optimizers models train eval taps quant ptq batches)
say() { printf '== %s\n' "$*" >&2; }
die() { printf 'pack.sh: %s\n' "$*" >&2; exit 1; }

"$root/scripts/setup.sh" --cuda
# shellcheck source=third_party/versions.env
source "$root/third_party/versions.env"
torch=${QUENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quench}/libtorch-$CUDA_LIBTORCH_VERSION/torch

say "building (the first time takes some minutes)"
# quench as a shared library, once for all programs. They find the libraries of the folder beside themselves, whichever
# library asks (--disable-new-dtags), LibTorch's in LD_LIBRARY_PATH, and the golden values in the working folder.
# shellcheck disable=SC2016  # $ORIGIN is for the loader
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTorch_DIR="$torch/share/cmake/Torch" \
  -DBUILD_SHARED_LIBS=ON -DCMAKE_CXX_FLAGS=-fPIC -DQUENCH_TESTS_DIR=tests \
  -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN/../lib' \
  -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags -DCMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags >/dev/null
cmake --build "$build" --target quench benches "${tests[@]/%/_test}"

stage=$build/pack  # what the archives hold, and the archives
rm -rf "${stage:?}"/{bin,lib,tests,golden,data}
mkdir -p "$stage"/{bin,lib,libraries/lib,tests,data,archives}
programs=("$build"/quench "$build"/tests/bench/*)
for test in "${tests[@]}"; do programs+=("$build/tests/${test}_test"); done
for program in "${programs[@]}"; do strip -o "$stage/bin/${program##*/}" "$program"; done
strip -o "$stage/lib/libquench_library.so" "$build/libquench_library.so"

# The distribution's libraries, but those that every machine has and LibTorch's own.
LD_LIBRARY_PATH=$torch/lib ldd "$stage"/bin/* | awk '$2 == "=>" { print $1, $3 }' | sort -u |
  grep -vE '^(libc|libm|libdl|librt|libpthread|libutil|libstdc\+\+|libgcc_s|libgomp)\.so|/libtorch-|/pack/bin/' >"$stage/libraries.txt" || true
rm -f "$stage"/libraries/lib/*
while read -r name path; do
  [ -e "$path" ] || die "$name, which the programs need, is not on this machine"
  strip -o "$stage/libraries/lib/$name" "$path"
done <"$stage/libraries.txt"

# Golden values: the part that is committed, and the whole folder where it is there. Pictures: every tenth of some
# photographs, where they lie beside the repository, for the loader.
ln -s "$root/tests/golden" "$stage/tests/golden"
golden=(tests)
whole=${QUENCH_GOLDEN:-$root/../shared/golden}
if [ -d "$whole" ]; then
  ln -s "$(realpath "$whole")" "$stage/golden"
  golden+=(golden)
fi
pictures=$root/../shared/data/sign-digits.tar.xz
if [ -e "$pictures" ]; then tar -xJf "$pictures" -C "$stage/data" --wildcards '*0.JPG'; fi
text=$root/../shared/data/wikitext-2.tar.xz
if [ -e "$text" ]; then tar -xJf "$text" -C "$stage/data"; fi

# archive NAME FOLDER PATH...: these paths of the folder as NAME.tar.xz, made anew only if a file has changed.
archive() {
  local name=$1 in=$2 sum
  shift 2
  sum=$(cd "$in" && find -L "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
  if [ "$sum" != "$(cat "$stage/archives/$name.sum" 2>/dev/null)" ]; then
    say "compressing $name"
    # The whole of the golden values is in the dictionary's reach: the committed part repeats some of them.
    tar -C "$in" --dereference --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c "$@" |
      xz --lzma2=preset=6,dict=64MiB >"$stage/archives/$name.tar.xz"
    echo "$sum" >"$stage/archives/$name.sum"
  fi
  cp "$stage/archives/$name.tar.xz" "$folder/"
}
rm -rf "$folder"
mkdir -p "$folder/scripts"
archive programs "$stage" bin lib
archive libraries "$stage/libraries" lib
archive golden "$stage" "${golden[@]}"
archive data "$stage" data
cp -r "$root/configs" "$folder/"
cp -r "$root/scripts/gpu" "$root/scripts/bench" "$folder/scripts/"
find "$folder" -name __pycache__ -prune -exec rm -r {} +

size=$(du -sb "$folder" | cut -f1)
((size <= limit)) || die "$folder has $size bytes, more than the $limit that a GPU machine takes"
say "$folder: $((size >> 20)) MiB; there: scripts/gpu/check.sh $(basename "$folder") OUT"
