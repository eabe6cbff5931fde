#!/usr/bin/env bash
# Kills quench at random moments and goes on, N times in all; at the end nothing may differ from an undisturbed run, and
# nothing may be left over: scripts/check_kills.sh N [--seed S] [--quench build/quench]
set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/check_kills.py" "$@"
