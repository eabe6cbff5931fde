#!/usr/bin/env bash
# One training step of quench beside transformers and plain PyTorch, interleaved in one run; see --help. Needs
# build/tests/bench/train_step (cmake --build --preset release --target benches).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/../python_env.sh")
exec "$python" "$here/train_step.py" "$@"
