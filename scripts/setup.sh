#!/usr/bin/env bash
# Installs what the build needs: Debian or Ubuntu packages, LibTorch from its CPU wheel and sentencepiece's source into a
# cache outside the tree ($QUENCH_CACHE, default ~/.cache/quench). Idempotent, non-interactive. With Torch_DIR set
# (<libtorch>/share/cmake/Torch), that LibTorch is used and none is fetched. With --cuda, the CUDA LibTorch that
# scripts/gpu/pack.sh builds against is fetched in place of the CPU one.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=third_party/versions.env
source "$root/third_party/versions.env"
cache=${QUENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quench}
say() { printf '== %s\n' "$*" >&2; }
die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }

jpeg=libjpeg62-turbo-dev  # Debian's name
if grep -qs ubuntu /etc/os-release; then jpeg=libjpeg-turbo8-dev; fi
packages=(build-essential cmake ninja-build pkg-config ccache python3 python3-pip unzip clang-format clang-tidy shellcheck
  nlohmann-json3-dev libspdlog-dev libcli11-dev libyaml-cpp-dev libicu-dev "$jpeg" libpng-dev libwebp-dev zlib1g-dev
  libgtest-dev)
missing_packages() {
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

if command -v apt-get >/dev/null; then
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]})); then
    say "installing packages: ${missing[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null || die "these packages are missing and need root to install: ${missing[*]}"
      as_root=(sudo)
    fi
    apt-cache show "${missing[@]}" >/dev/null 2>&1 || "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      "${missing[@]}" >/dev/null
  fi
else
  say "no apt-get: install these yourself: ${packages[*]}"
fi

# fetch NAME FILE-PATTERN SHA256 HINT PIP-ARGUMENTS...: a file from the package index into the cache, checked.
fetch() {
  local name=$1 pattern=$2 sum=$3 hint=$4
  shift 4
  mkdir -p "$cache/downloads"
  say "fetching $name"
  python3 -m pip download --quiet --no-deps --disable-pip-version-check -d "$cache/downloads" "$@" ||
    die "$name could not be fetched$hint"
  fetched=$(find "$cache/downloads" -name "$pattern" | head -1)
  [ -n "$fetched" ] || die "$name: the package index gave no $pattern"
  echo "$sum  $fetched" | sha256sum --check --quiet - ||
    die "$name: $fetched is not the file that third_party/versions.env names$hint"
}

# fetch_libtorch VERSION SHA256 HINT PIP-ARGUMENTS...
fetch_libtorch() {
  local version=$1 sum=$2 hint=$3
  shift 3
  [ ! -e "$cache/libtorch-$version/torch/lib/libtorch.so" ] || return 0
  fetch "LibTorch $version" "torch-$version*.whl" "$sum" "$hint" --only-binary=:all: "$@"
  local partial=$cache/libtorch-$version.partial
  rm -rf "$partial" "$cache/libtorch-$version"
  mkdir -p "$partial"
  unzip -q "$fetched" 'torch/lib/*' 'torch/include/*' 'torch/share/*' -d "$partial"
  mv "$partial" "$cache/libtorch-$version"
  rm -f "$fetched"
}

# fetch_cuda_library PACKAGE VERSION SHA256 FILE: FILE of the package, to where the CUDA LibTorch looks for it.
fetch_cuda_library() {
  local folder=nvidia/cu13/lib root=$cache/libtorch-$CUDA_LIBTORCH_VERSION
  [ ! -e "$root/$folder/$4" ] || return 0
  fetch "$1 $2" "${1//-/_}-$2-*.whl" "$3" "" --only-binary=:all: "$1==$2"
  unzip -q -o "$fetched" "$folder/$4" -d "$root"
  rm -f "$fetched"
}

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9  # a second setup.sh waits and then finds everything there
if [ "${1:-}" = --cuda ]; then
  fetch_libtorch "$CUDA_LIBTORCH_VERSION" "$CUDA_LIBTORCH_SHA256" \
    ": let pip find PyTorch's CUDA wheel, the one of PyPI (PIP_INDEX_URL, PIP_FIND_LINKS)" \
    --python-version 3.12 "torch===$CUDA_LIBTORCH_VERSION"
  fetch_cuda_library nvidia-cuda-runtime "$CUDA_RUNTIME_VERSION" "$CUDA_RUNTIME_SHA256" libcudart.so.13
  fetch_cuda_library nvidia-cuda-cupti "$CUDA_CUPTI_VERSION" "$CUDA_CUPTI_SHA256" libcupti.so.13
elif [ -z "${Torch_DIR:-}" ]; then
  fetch_libtorch "$LIBTORCH_VERSION" "$LIBTORCH_SHA256" \
    ": let pip find PyTorch's CPU wheel (PIP_INDEX_URL, PIP_FIND_LINKS), or set Torch_DIR to a LibTorch" \
    --python-version 3.11 "torch==$LIBTORCH_VERSION"
fi

if [ ! -e "$cache/sentencepiece-$SENTENCEPIECE_VERSION/sentencepiece/src" ]; then
  fetch "sentencepiece $SENTENCEPIECE_VERSION" "sentencepiece-$SENTENCEPIECE_VERSION.tar.gz" "$SENTENCEPIECE_SHA256" "" \
    --no-binary=:all: "sentencepiece==$SENTENCEPIECE_VERSION"
  rm -rf "$cache/sentencepiece-$SENTENCEPIECE_VERSION"
  tar -xzf "$fetched" -C "$cache"
  rm -f "$fetched"
fi
say "everything the build needs is there (cache: $cache)"
