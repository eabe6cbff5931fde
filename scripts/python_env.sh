#!/usr/bin/env bash
# Makes a Python environment with transformers, timm and the PyTorch of LibTorch's version in the cache ($QUENCH_CACHE,
# default ~/.cache/quench), and prints the path of its interpreter. Idempotent; PYTHON (default python3) makes it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=third_party/versions.env
source "$root/third_party/versions.env"
venv=${QUENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quench}/bench-venv
wanted=("torch==$LIBTORCH_VERSION" "transformers==5.23.0" "safetensors==0.8.0" "numpy==2.4.6" "pillow==12.3.0")
timm=timm==1.0.31  # without torchvision, whose wheel wants the PyTorch with CUDA
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "${wanted[*]} $timm" ]; then
  printf '== installing %s into %s\n' "${wanted[*]} $timm" "$venv" >&2
  "${PYTHON:-python3}" -m venv "$venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$timm" >&2
  echo "${wanted[*]} $timm" >"$venv/wanted"
fi
echo "$venv/bin/python"
