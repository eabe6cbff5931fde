#!/usr/bin/env bash
# Preparation of much text, cold and again: scripts/bench/prepare.sh GIGABYTES FILE...
# Repeats FILE... to so many gigabytes in files of 256 MB below $TMPDIR, tokenizes them, and then starts a training of one
# step on what was prepared. Prints seconds and peak memory; removes everything at the end.
set -euo pipefail
gigabytes=${1:?usage: scripts/bench/prepare.sh GIGABYTES FILE...}
shift
quench=$(realpath "${QUENCH:-build/quench}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/text"
cat "$@" >"$work/one"
for ((i = 0; i < gigabytes * 4; ++i)); do
  { echo "Part $i"; while cat "$work/one"; do :; done; } 2>/dev/null | head -c 268435456 | iconv -c -f utf-8 -t utf-8 \
    >"$work/text/$i.txt" || true
done
rm "$work/one"
cat >"$work/a.yaml" <<'YAML'
model: {type: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64}
data: {type: text, files: ["text/*.txt"], max_seq_length: 128, validation_share: 0.03}
tokenizer: {vocab_size: 8000}
train: {steps: 1, batch_size: 2}
eval: {max_batches: 1, outliers: false}
YAML
cd "$work"
export QUENCH_CACHE=$work/cache
measure() {
  local name=$1
  shift
  python3 - "$name" "$@" <<'PY'
import resource, subprocess, sys, time
begin = time.monotonic()
subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(f"{sys.argv[1]:24} {time.monotonic() - begin:8.1f} s  {peak / 1024:8.0f} MB at most")
PY
}
du -sh text | sed 's/\t.*/ of text/'
measure "prepared" "$quench" -q data prepare a.yaml
du -sh cache/tokens | sed 's/\t.*/ of tokens/'
measure "prepared before" "$quench" -q data prepare a.yaml
measure "a training of one step" "$quench" -q train a.yaml --output run
