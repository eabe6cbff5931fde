#!/usr/bin/env bash
# Checks that transformers and quench open each other's models and agree; see --help. Needs build/quench.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/python_env.sh")
exec "$python" "$here/check_transformers.py" "$@"
