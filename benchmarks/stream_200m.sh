#!/usr/bin/env bash
# The NLL of 200,000,000 tokens in one stream, on a GPU in bfloat16, in pieces that a kill ends.
#
#   benchmarks/stream_200m.sh [ARGUMENT...]         reads on for PIECE_SECONDS at most, and says where the stream stands
#   benchmarks/stream_200m.sh --all [ARGUMENT...]   piece after piece until it is finished
#
# Each ARGUMENT goes to scripts/eval_infinite_ppl.py behind the script's own ones, and so counts before them.
# Exit status: 0 the stream is finished; 75 the piece is over and the stream is not: give the same command again;
# anything else is an error.
# Once finished, results.json, stats.npz and a picture are in benchmarks/results/stream_200m_DEVICE.
# To try it out without a GPU: DEVICE=cpu LENGTH=20000 CHUNK=4096 PIECE_SECONDS=60 benchmarks/stream_200m.sh --all
set -euo pipefail

DEVICE=${DEVICE:-cuda}               # or cpu
MODEL=${MODEL:-smollm2}
DATASET=${DATASET:-plays}
LENGTH=${LENGTH:-200000000}          # tokens in the stream
CHUNK=${CHUNK:-49152}                # tokens fed at once
SAVE_STEPS=${SAVE_STEPS:-10}         # chunks from one checkpoint to the next: a kill costs at most these
PIECE_SECONDS=${PIECE_SECONDS:-540}
PYTHON=${PYTHON:-python}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LOG_DIR=${LOG_DIR:-$here/../logs/stream_200m_$DEVICE}
RESULTS=${RESULTS:-$here/results/stream_200m_$DEVICE}
NOT_FINISHED=75
KILLED=137

fail() {
    echo "error: $1" >&2
    exit 1
}

newest_checkpoint() {
    find "$LOG_DIR" -maxdepth 1 -name 'checkpoint-*' ! -name '*.partial' | sort | tail -n 1
}

# One piece. Returns NOT_FINISHED where its time was up, else what the evaluation script returned.
read_on() {
    local before status=0
    mkdir -p "$LOG_DIR"
    before=$(newest_checkpoint)
    timeout --foreground -s KILL "$PIECE_SECONDS" "$PYTHON" "$here/../scripts/eval_infinite_ppl.py" \
        --model "$MODEL" --dtype "$DTYPE" --use_lambda_attention --local_branch 4096 --global_branch 10 \
        --dataset "$DATASET" --streaming_length "$LENGTH" --max_length "$CHUNK" --save_steps "$SAVE_STEPS" \
        --log_dir "$LOG_DIR" "$@" || status=$?
    [[ $status == "$KILLED" ]] || return "$status"
    [[ $(newest_checkpoint) != "$before" ]] ||
        fail "killed before a new checkpoint was written: give a longer PIECE_SECONDS (it is $PIECE_SECONDS), or a \
smaller SAVE_STEPS ($SAVE_STEPS) or CHUNK ($CHUNK)"
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
