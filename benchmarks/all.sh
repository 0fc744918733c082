#!/usr/bin/env bash
# The whole suite on one device, one benchmark after the other, each with its picture.
#
#   benchmarks/all.sh [cpu|cuda] [NAME...]     those named, or all: a NAME is a file here without its .py
#
# On the CPU all is without attention_memory: growth measures the same memory up to 64K, and each measurement is a process.
#
# NAME_DEVICE.json is written to the folder RESULTS (logs/benchmarks), NAME_DEVICE.png to PICTURES (RESULTS): `make bench`
# has them be those that the repository has of this machine, by the name that machine_name.py gives it. One that fails
# does not keep the next from running; the exit status is then 1, and the last line names it.
# SECONDS_IN_ALL=480 ends each benchmark after its share of so many seconds: what it had measured is in its results.
set -uo pipefail

ALL=(prefill_kernel decode_kernel model_speed streaming_speed growth attention_memory)
SHARES=(25 10 40 10 9 6) # per cent of SECONDS_IN_ALL
PYTHON=${PYTHON:-python}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-0}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RESULTS=${RESULTS:-logs/benchmarks}
PICTURES=${PICTURES:-$RESULTS}
device=${1:-cpu}
names=("${@:2}")
((${#names[@]})) || for name in "${ALL[@]}"; do
    [[ $device == cpu && $name == attention_memory ]] || names+=("$name")
done

fail() {
    echo "error: $1" >&2
    exit 2
}

share_of() { # 0 is no limit
    local place
    for place in "${!ALL[@]}"; do
        [[ ${ALL[$place]} != "$1" ]] || echo "$(((SECONDS_IN_ALL * SHARES[place] + 99) / 100))"
    done
}

# `timeout` ends a benchmark with all processes of its own, also where Ctrl-C ends this script.
measure() {
    timeout "$(share_of "$1")" "$PYTHON" "$here/$1.py" --device "$device" --out "$RESULTS" &
    trap "kill $! 2>/dev/null; exit 130" INT TERM
    wait $!
}

# What this run has measured: not what lay there before.
draw() {
    [[ ! $RESULTS/$1.json -nt $started ]] ||
        "$PYTHON" "$here/../visualization/benchmark.py" "$RESULTS/$1.json" --out "$PICTURES/$1.png"
}

[[ $device == cpu || $device == cuda ]] || fail "the device must be cpu or cuda, not $device"
[[ $SECONDS_IN_ALL =~ ^[0-9]+$ ]] || fail "SECONDS_IN_ALL must be a whole number of seconds, not $SECONDS_IN_ALL"
for name in "${names[@]}"; do
    [[ " ${ALL[*]} " == *" $name "* ]] || fail "there is no benchmark $name: give one of ${ALL[*]}"
done

mkdir -p "$PICTURES"
started=$(mktemp)
trap 'rm -f "$started"' EXIT
failed=()
for name in "${names[@]}"; do
    echo "== $name"
    measure "$name" || failed+=("$name (exit status $?)")
    draw "${name}_$device" || failed+=("$name's picture")
done
((!${#failed[@]})) || {
    printf 'not whole: %s\n' "${failed[*]}" >&2
    exit 1
}
