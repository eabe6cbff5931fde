#!/usr/bin/env bash
# Sets up, builds, and runs all tests. Nothing else needs to be typed or known.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
printf '== building (the first time takes a few minutes)\n' >&2
cmake --preset release >/dev/null
cmake --build --preset release
printf '== testing\n' >&2
ctest --preset release "$@"
printf '== all tests passed; logs are in build/Testing\n' >&2
