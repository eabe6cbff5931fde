#!/usr/bin/env bash
# Feeds mutated files to quench's readers under the address and undefined-behaviour sanitizers: scripts/fuzz.sh SECONDS
# SECONDS are shared among the harnesses of tests/fuzz, one after the other; FUZZERS="yaml image" chooses some. Needs
# clang with libFuzzer (package clang, with libclang-rt-dev). Findings lie in build/fuzz/findings/NAME, what has been
# learnt in build/fuzz/corpus/NAME; a later call goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:?usage: scripts/fuzz.sh SECONDS}
command -v clang++ >/dev/null || { echo "fuzz.sh: clang++ is missing: install the packages clang and libclang-rt-14-dev" >&2; exit 1; }
scripts/setup.sh
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzzers
python3 tests/fuzz/seeds.py build/fuzz/corpus

mapfile -t all < <(find tests/fuzz -name '*.cpp' -printf '%f\n' | sed 's/\.cpp//' | sort)
read -r -a chosen <<<"${FUZZERS:-${all[*]}}"
share=$((seconds / ${#chosen[@]}))
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:symbolize=0 UBSAN_OPTIONS=print_stacktrace=1
total=0 failed=()
for name in "${chosen[@]}"; do
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/findings/$name"
  log=build/fuzz/$name.log
  timeout -s KILL $((share + 60)) "build/fuzz/tests/fuzz/fuzz_$name" "build/fuzz/corpus/$name" -max_total_time=$((share > 0 ? share : 1)) -timeout=10 \
    -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$name/" >"$log" 2>&1 ||
    failed+=("$name")
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  printf '%-22s %12s executions\n' "$name" "${runs:-0}"
  total=$((total + ${runs:-0}))
  rm -rf /dev/shm/quench-fuzz-*
done
printf '%-22s %12s executions\n' all "$total"
if ((${#failed[@]})); then
  echo "findings in build/fuzz/findings: ${failed[*]} (build/fuzz/NAME.log says what)" >&2
  exit 1
fi
