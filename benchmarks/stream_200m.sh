#!/usr/bin/env bash
# The NLL of 200,000,000 tokens in one stream, on a GPU in bfloat16, in pieces of at most 9 minutes.
#
#   benchmarks/stream_200m.sh [ARGUMENT...]         reads on for PIECE_SECONDS at most, and says where the stream stands
#   benchmarks/stream_200m.sh --all [ARGUMENT...]   piece after piece until it is finished
#   benchmarks/stream_200m.sh --help                says this
#
# Each ARGUMENT goes to scripts/eval_infinite_ppl.py behind the script's own ones, and so counts before them.
# Exit status: 0 the stream is finished; 75 the piece is over and the stream is not: give the same command again;
# anything else is an error.
# A piece ends by itself with a checkpoint, from which the next one goes on: nothing is lost in between. One that has
# not ended when PIECE_SECONDS are over is killed, and costs what it has read since its newest checkpoint.
# Once finished, results.json, stats.npz and a picture are in RESULTS.
#
# Environment variables, with what they are where they are not set:
#   DEVICE=cuda          or cpu
#   MODEL=smollm2        as --model takes it
#   DTYPE=bfloat16       float32 on the CPU
#   DATASET=plays        as --dataset takes it
#   LENGTH=200000000     tokens in the stream
#   CHUNK=49152          tokens fed at once
#   SAVE_SECONDS=60      from one checkpoint to the next
#   SAVE_STEPS=          chunks from one checkpoint to the next, where these come first
#   PIECE_SECONDS=540    of a piece; a sixth of them is for its start, its last chunk and the checkpoint
#   LOG_DIR=logs/stream_200m_DEVICE
#   RESULTS=logs/benchmarks/stream_200m_DEVICE
#   PYTHON=python
#
# To try it out without a GPU: DEVICE=cpu LENGTH=20000 CHUNK=4096 PIECE_SECONDS=90 benchmarks/stream_200m.sh --all
set -euo pipefail

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
fi

DEVICE=${DEVICE:-cuda}
MODEL=${MODEL:-smollm2}
DATASET=${DATASET:-plays}
LENGTH=${LENGTH:-200000000}
CHUNK=${CHUNK:-49152}
SAVE_SECONDS=${SAVE_SECONDS:-60}
SAVE_STEPS=${SAVE_STEPS:-}
PIECE_SECONDS=${PIECE_SECONDS:-540}
PYTHON=${PYTHON:-python}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LOG_DIR=${LOG_DIR:-$here/../logs/stream_200m_$DEVICE}
RESULTS=${RESULTS:-$here/../logs/benchmarks/stream_200m_$DEVICE}
NOT_FINISHED=75
KILLED=137

fail() {
    echo "error: $1" >&2
    exit 1
}

newest_checkpoint() {
    find "$LOG_DIR" -maxdepth 1 -name 'checkpoint-*' ! -name '*.partial' | sort | tail -n 1
}

# One piece. Returns NOT_FINISHED where its time was up, which the evaluation script says with the same status or a
# kill, else what that returned.
read_on() {
    local before status=0 seconds=$((PIECE_SECONDS * 5 / 6))
    mkdir -p "$LOG_DIR"
    before=$(newest_checkpoint)
    timeout --foreground -s KILL "$PIECE_SECONDS" "$PYTHON" "$here/../scripts/eval_infinite_ppl.py" \
        --model "$MODEL" --dtype "$DTYPE" --use_lambda_attention --local_branch 4096 --global_branch 10 \
        --dataset "$DATASET" --streaming_length "$LENGTH" --max_length "$CHUNK" \
        --save_seconds "$SAVE_SECONDS" ${SAVE_STEPS:+--save_steps "$SAVE_STEPS"} \
        --max_seconds "$((seconds > 0 ? seconds : 1))" --log_dir "$LOG_DIR" "$@" || status=$?
    [[ $status == "$KILLED" ]] || return "$status"
    [[ $(newest_checkpoint) != "$before" ]] ||
        fail "killed before a new checkpoint was written: give a longer PIECE_SECONDS (it is $PIECE_SECONDS), or a \
smaller SAVE_SECONDS ($SAVE_SECONDS) or CHUNK ($CHUNK)"
    return "$NOT_FINISHED"
}

keep_results() {
    mkdir -p "$RESULTS"
    cp "$LOG_DIR/results.json" "$LOG_DIR/stats.npz" "$RESULTS"
    "$PYTHON" "$here/../visualization/plot_nll.py" "$LOG_DIR" --x log --out "$RESULTS/nll.png"
}

all=false
if [[ ${1:-} == --all ]]; then
    all=true
    shift
fi

[[ $PIECE_SECONDS =~ ^[1-9][0-9]*$ ]] ||
    fail "PIECE_SECONDS=$PIECE_SECONDS is no number of seconds: give a whole one of 1 or more"
case $DEVICE in
    cuda)
        DTYPE=${DTYPE:-bfloat16}
        "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
            fail "there is no CUDA device here: DEVICE=cpu with a short LENGTH tries it out without one"
        ;;
    cpu)
        DTYPE=${DTYPE:-float32}
        export CUDA_VISIBLE_DEVICES=
        ;;
    *) fail "DEVICE=$DEVICE is neither cuda nor cpu" ;;
esac

while true; do
    status=0
    read_on "$@" || status=$?
    [[ $status == 0 || $status == "$NOT_FINISHED" ]] || exit "$status"
    "$PYTHON" "$here/stream_standing.py" "$LOG_DIR"
    [[ $status == "$NOT_FINISHED" && $all == true ]] || break
done
[[ $status == 0 ]] || exit "$status"
keep_results
