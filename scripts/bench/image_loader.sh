#!/bin/bash
# Training images per second of the loader alone, beside Pillow + timm where PYTHON (default python3) has them.
# Usage: image_loader.sh FOLDER [IMAGE_SIZE [WORKERS [BATCHES]]]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:?a folder with one folder of images a class} size=${2:-224} workers=${3:-$(nproc)} batches=${4:-10}
program=$root/build/tests/bench/image_loader
if [ ! -x "$program" ]; then
  echo "$program does not exist: cmake --build --preset release --target benches makes it" >&2
  exit 1
fi
echo "$folder at $size x $size, $workers workers"
"$program" "$folder" "$size" "$workers" "$batches"
if "${PYTHON:-python3}" -c 'import PIL, numpy, importlib.util as u; assert u.find_spec("timm")' 2>/dev/null; then
  "${PYTHON:-python3}" "$root/scripts/bench/image_loader.py" "$folder" "$size" "$workers" "$batches"
else
  echo "pillow + timm: not installed, skipped"
fi
