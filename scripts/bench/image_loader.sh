#!/bin/bash
# Training images per second of the loader alone, beside Pillow + timm where PYTHON (default python3) has them.
# Usage: image_loader.sh FOLDER [IMAGE_SIZE [WORKERS [BATCHES]]]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:?a folder with one folder of images a class} size=${2:-224} workers=${3:-$(nproc)} batches=${4:-10}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
c++ -std=c++20 -O3 -I"$root/src" "$root"/tests/bench/image_loader.cpp "$root"/src/data/image/*.cpp \
  "$root"/src/base/{random,log}.cpp -lspdlog -lfmt -ljpeg -lpng -lz -lpthread -o "$work/image_loader"
echo "$folder at $size x $size, $workers workers"
"$work/image_loader" "$folder" "$size" "$workers" "$batches"
if "${PYTHON:-python3}" -c 'import PIL, numpy, importlib.util as u; assert u.find_spec("timm")' 2>/dev/null; then
  "${PYTHON:-python3}" "$root/scripts/bench/image_loader.py" "$folder" "$size" "$workers" "$batches"
else
  echo "pillow + timm: not installed, skipped"
fi
