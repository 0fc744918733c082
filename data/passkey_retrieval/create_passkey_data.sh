#!/usr/bin/env bash
# Pass keys in prompts of 2,048 to 16,384 tokens, one folder a length:
#     bash data/passkey_retrieval/create_passkey_data.sh FOLDER TOKENIZER [LENGTH ...] [-- OPTIONS of create_passkey_data.py]
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER TOKENIZER [LENGTH ...] [-- OPTION ...]" >&2
    exit 2
fi
folder=$1 tokenizer=$2
shift 2

lengths=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    lengths+=("$1")
    shift
done
[ $# -eq 0 ] || shift
[ ${#lengths[@]} -gt 0 ] || mapfile -t lengths < <(seq 2048 2048 16384)

for length in "${lengths[@]}"; do
    python "$(dirname "$0")/create_passkey_data.py" \
        --token-length "$length" --dump-file-path "$folder/$length" --tokenizer-path "$tokenizer" "$@"
done
