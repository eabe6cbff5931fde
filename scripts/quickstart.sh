#!/usr/bin/env bash
# From a fresh clone to a table of real results: sets up, builds, pretrains three small BERTs (vanilla, clipped softmax,
# gated attention) on the C++ headers that LibTorch ships, quantizes each to INT8, and prints the paper's Table 2 for
# them. Run again, it reuses what is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
printf '== building (the first time takes a few minutes)\n' >&2
cmake --preset release >/dev/null
cmake --build --preset release --target quench >&2  # stdout is for the table
printf '== training three small BERTs and quantizing them (results go to runs/quickstart)\n' >&2
build/quench sweep configs/sweeps/quickstart.yaml --output runs/quickstart "$@"
printf '== the table is in runs/quickstart/table.md, each run in a folder beside it; curves: tensorboard --logdir runs/quickstart\n' >&2
