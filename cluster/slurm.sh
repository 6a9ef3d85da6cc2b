#!/usr/bin/env bash
# Run every line of a file as one experiment of a Slurm array: cluster/slurm.sh EXPERIMENTS [OPTIONS OF SBATCH]
#
# A line is a name and overrides without spaces, such as: charizard filter.class=Charizard train.seed=1
# Nodes share nothing but the git remote and the DVC remote: each job clones `origin` at this commit (push it first), runs
# `dvc exp run`, and pushes the experiment. A job that is killed, or reaches its time limit, is queued again. It goes on
# from the last checkpoint if its folder under $ONEWORD_WORK (~/.cache/oneword) is still there, else from the last stage
# that any job has pushed.
#SBATCH --job-name=oneword --requeue --open-mode=append --signal=B:USR1@60
set -euo pipefail

if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
  file=$(realpath --relative-to="$(git rev-parse --show-toplevel)" "$1")
  if ! git diff --quiet HEAD -- "$file" || [ -z "$(git branch -r --contains HEAD)" ]; then
    echo "cluster/slurm.sh: commit and push $file first, because jobs clone \`origin\`."
    exit 1
  fi
  REPOSITORY=$(git remote get-url origin) COMMIT=$(git rev-parse HEAD)
  export REPOSITORY COMMIT
  exec sbatch --array="1-$(wc -l <"$1")" "${@:2}" "$0" "$file"
fi

work=${ONEWORD_WORK:-$HOME/.cache/oneword}/$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID
if [ ! -d "$work" ]; then
  rm -rf "$work.new"
  git clone -q "$REPOSITORY" "$work.new"
  git -C "$work.new" checkout -q "$COMMIT"
  mv "$work.new" "$work"
fi
cd "$work"
read -r -a words < <(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1")
name=${words[0]} options=()
for override in "${words[@]:1}"; do options+=(-S "$override"); done

stop() { # the stage sees the end of dvc and saves a checkpoint; a second signal would end it at once
  kill -TERM "$run" && while kill -0 -- "-$run" 2>/dev/null; do sleep 0.2; done
}
trap 'stop; exit 143' TERM                               # preempted or queued again by somebody
trap 'stop; scontrol requeue "$SLURM_JOB_ID"; exit' USR1 # a minute before the time limit

if ! dvc exp list --name-only | grep -qx -- "$name"; then # else only the push failed
  set -m                                                  # gives dvc and its stages a process group
  dvc exp run --pull --allow-missing -n "$name" "${options[@]}" &
  run=$!
  wait "$run"
fi
dvc exp push -q --run-cache origin "$name"
cd / && rm -rf "$work"
