#!/usr/bin/env bash
# Checks quench on the machine that it runs on: what is right, what is wrong, how fast it is (docs/gpu.md).
# Usage: check.sh FOLDER OUT [--stages 1,2,3] [--seconds 480] [--device auto|cpu|cuda]; FOLDER is what pack.sh wrote.
# Needs bash and Python with PyTorch ($PYTHON, by default python3).
exec "${PYTHON:-python3}" -B "$(dirname "${BASH_SOURCE[0]}")/check.py" "$@"
