#!/bin/sh
# Every figure of docs/training.md that needs a GPU, in one go: bench/gpu.sh SCRIPT OUT [SECONDS]
# SCRIPT is diffusers' examples/textual_inversion/textual_inversion.py, OUT a folder. About 10 minutes on one H200.
set -eu
script=$1 out=$2 seconds=${3:-600}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
began=$(date +%s)
python3 -m bench.shape sd15 "$work/model"
left=$((seconds - $(date +%s) + began))
python3 -m bench.train --model "$work/model" --reference "$script" --out "$work/out" --precision fp16 --side 512 \
  --budget "$left" --tests --compiled 2>&1 | tee "$out/bench.txt"
cp "$work/out/rows.json" "$out/"
