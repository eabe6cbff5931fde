#!/usr/bin/env bash
# Feeds mutated files to quench's readers under the address and undefined-behaviour sanitizers: scripts/fuzz.sh SECONDS
# SECONDS are shared among the harnesses of tests/fuzz, one after the other; FUZZERS="yaml image" chooses some. Needs
# clang with libFuzzer (packages clang, libclang-rt-dev, libomp-dev). Findings lie in build/fuzz/findings/NAME, what has been
# learnt in build/fuzz/corpus/NAME; a later call goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:?usage: scripts/fuzz.sh SECONDS}
command -v clang++ >/dev/null || { echo "fuzz.sh: clang++ is missing: install the packages clang, and libclang-rt-dev and libomp-dev of its version" >&2; exit 1; }
scripts/setup.sh
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzzers
python3 tests/fuzz/seeds.py build/fuzz/corpus

mapfile -t all < <(find tests/fuzz -name '*.cpp' -printf '%f\n' | sed 's/\.cpp//' | sort)
read -r -a chosen <<<"${FUZZERS:-${all[*]}}"
share=$((seconds / ${#chosen[@]}))
((share > 0)) || share=1
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:symbolize=0 UBSAN_OPTIONS=print_stacktrace=1
export OMP_NUM_THREADS=1

# fuzz NAME SECONDS: one run, which ends early at a finding. Adds to `runs` what it executed.
runs=0
fuzz() {
  local log=build/fuzz/$1.log status=0 count
  timeout -s KILL $(($2 + 60)) "build/fuzz/tests/fuzz/fuzz_$1" "build/fuzz/corpus/$1" -max_total_time="$2" -timeout=10 \
    -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$1/" >"$log" 2>&1 || status=$?
  count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  # Killed, it has no final count, but those of its lines of progress.
  [ -n "$count" ] || count=$(sed -n 's/^#\([0-9]*\)\t.*/\1/p' "$log" | tail -1)
  runs=$((runs + ${count:-0}))
  ((status == 0)) || cp "$log" "build/fuzz/findings/$1/$(date +%s).log"
  rm -rf /dev/shm/quench-fuzz-*
  return $status
}

total=0 failed=()
for name in "${chosen[@]}"; do
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/findings/$name"
  runs=0 findings=0 end=$((SECONDS + share))
  while ((SECONDS < end && findings < 5)); do
    fuzz "$name" $((end - SECONDS)) || findings=$((findings + 1))
  done
  ((findings == 0)) || failed+=("$name")
  printf '%-22s %12s executions\n' "$name" "$runs"
  total=$((total + runs))
done
printf '%-22s %12s executions\n' all "$total"
if ((${#failed[@]})); then
  echo "findings, each with its log, in build/fuzz/findings: ${failed[*]}" >&2
  exit 1
fi
