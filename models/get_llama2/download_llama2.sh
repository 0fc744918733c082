#!/usr/bin/env bash
# Download Llama 2 as Meta ships it. Needs bash, wget or curl, and the signed link of Meta's e-mail.

set -euo pipefail

ALL_SIZES="7B,13B,70B,7B-chat,13B-chat,70B-chat"
ATTEMPTS=5
RETRY_SECONDS=${LLAMA2_RETRY_SECONDS:-5}

usage() {
    cat <<EOF
usage: download_llama2.sh [--url LINK] [--sizes LIST] [--target FOLDER]

  --url LINK       the signed link of Meta's e-mail, with its *; asked for if neither given nor in LLAMA2_URL,
                   which keeps it out of the list of processes
  --sizes LIST     of $ALL_SIZES,
                   separated by commas; asked for if neither given nor in LLAMA2_SIZES
  --target FOLDER  where the files go (llama2)

The same command again resumes. A file has its own name only once its checksum is right; until then it is FILE.part.
EOF
}

fail() {  # WORD...: of one sentence
    echo "error: $*" >&2
    exit 2
}

value_of() {  # FLAG NUMBER_OF_ARGUMENTS_LEFT VALUE
    (($2 > 1)) || fail "$1 needs a value; --help lists the flags"
    echo "$3"
}

parse_arguments() {
    url=${LLAMA2_URL:-} sizes=${LLAMA2_SIZES:-} target=llama2
    while (($#)); do
        case $1 in
            --url) url=$(value_of "$1" $# "${2:-}") ;;
            --sizes) sizes=$(value_of "$1" $# "${2:-}") ;;
            --target) target=$(value_of "$1" $# "${2:-}") ;;
            --help | -h) usage && exit ;;
            *) fail "$1 is no flag of this script; --help lists them" ;;
        esac
        shift 2
    done
}

ask() {
    if [[ -z $url ]]; then
        read -rp "Signed link of Meta's e-mail: " url ||
            fail "there is no link: give it when asked, with --url or in LLAMA2_URL"
    fi
    if [[ -z $sizes ]]; then
        read -rp "Sizes, separated by commas ($ALL_SIZES; Enter for all): " sizes ||
            fail "there are no sizes: give them when asked, with --sizes or in LLAMA2_SIZES"
        sizes=${sizes:-$ALL_SIZES}
    fi
}

check_answers() {
    local link='^https?://[^[:space:]"\]*\*[^[:space:]"\]*$' size
    [[ $url =~ $link ]] || fail "the link is not one of Meta's, which start with https:// and have a * for the file:" \
        "copy it whole from the e-mail"
    sizes=${sizes//,/ }
    [[ -n ${sizes// /} ]] || fail "--sizes is empty: give some of $ALL_SIZES"
    for size in $sizes; do
        [[ ,$ALL_SIZES, == *,$size,* ]] || fail "$size is no size of Llama 2: give some of $ALL_SIZES"
    done
}

find_tools() {
    local tool
    for tool in wget curl; do
        if command -v $tool >/dev/null; then downloader=$tool && break; fi
    done
    [[ -n ${downloader:-} ]] || fail "neither wget nor curl is installed: install one of them"
    command -v md5sum >/dev/null || command -v md5 >/dev/null ||
        fail "neither md5sum nor md5 is installed: install one of them"
}

md5_of() {
    if command -v md5sum >/dev/null; then md5sum <"$1" | cut -d ' ' -f 1; else md5 -q "$1"; fi
}

# The link goes through stdin: it is a secret, and the list of processes is public.
fetch_wget() {  # LINK FILE: resume FILE
    wget --continue --tries=1 --timeout=60 --no-verbose --show-progress --output-document="$2" --input-file=- <<<"$1"
}

fetch_curl() {
    curl --fail --location --globoff --continue-at - --connect-timeout 60 --speed-limit 1 --speed-time 60 \
        --progress-bar --output "$2" --config - <<<"url = \"$1\""
}

say_failure() {  # NAME STATUS: of wget or curl
    case $downloader-$2 in
        wget-8 | curl-22) fail "the server refused $1: the link may have expired or may not cover this model," \
            "so request a new one and run this again" ;;
        wget-3 | curl-23) fail "$target/$1.part cannot be written: make room or give another --target," \
            "and run this again" ;;
        curl-33) fail "the server does not resume $1: remove $target/$1.part and run this again" ;;
        *) fail "$1 did not arrive in $ATTEMPTS attempts ($downloader ended with status $2): run this again" \
            "to resume it" ;;
    esac
}

fetch() {  # NAME: into target/NAME.part, from where that ends
    local attempt status
    for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
        status=0
        "fetch_$downloader" "${url/\*/$1}" "$target/$1.part" || status=$?
        case $downloader-$status in
            *-0) return ;;
            wget-[38] | curl-22 | curl-23 | curl-33) break ;;
        esac
        ((attempt == ATTEMPTS)) || sleep "$RETRY_SECONDS"
    done
    return $status
}

get_plain() {  # NAME: a small file without a checksum, always anew
    local status=0
    rm -f "$target/$1.part"
    fetch "$1" || status=$?
    ((status == 0)) || say_failure "$1" $status
    mv "$target/$1.part" "$target/$1"
}

get_checked() {  # NAME MD5
    local status=0 path=$target/$1
    if [[ -f $path && $(md5_of "$path") == "$2" ]]; then
        echo "$1 is there already"
        return
    fi
    fetch "$1" || status=$?
    # A server also refuses to resume what is whole already, so the checksum decides.
    if [[ ! -f $path.part || $(md5_of "$path.part") != "$2" ]]; then
        ((status == 0)) || say_failure "$1" $status
        rm -f "$path.part"
        fail "$1 arrived damaged (its MD5 is not the one of Meta's list) and was removed:" \
            "run this again to download it anew"
    fi
    mv "$path.part" "$path"
    echo "$1: checksum right"
}

get_listed() {  # LIST NAME...: the files, by the checksums of that list
    local list=$1 name sum
    get_plain "$list"
    for name in "${@:2}"; do
        sum=$(awk -v name="${name##*/}" '$2 == name || $2 == "*" name { print tolower($1); exit }' "$target/$list")
        [[ $sum =~ ^[0-9a-f]{32}$ ]] ||
            fail "$target/$list has no checksum of ${name##*/}: the link does not lead to Meta's files," \
                "so copy it anew from the e-mail"
        get_checked "$name" "$sum"
    done
}

get_model() {  # SIZE
    local folder shards shard names=()
    folder=llama-2-$(tr '[:upper:]' '[:lower:]' <<<"$1")
    case $1 in
        7B*) shards=1 ;;
        13B*) shards=2 ;;
        70B*) shards=8 ;;
    esac
    mkdir -p "$target/$folder" || fail "--target $target cannot be written: give another folder"
    for ((shard = 0; shard < shards; shard++)); do
        names+=("$folder/consolidated.0$shard.pth")
    done
    get_listed "$folder/checklist.chk" "$folder/params.json" "${names[@]}"
    echo "$1 is whole; the next step: python models/get_llama2/convert_llama_weights_to_hf.py" \
        "--input_dir $target --model_size $1 --output_dir $target/$folder-hf"
}

main() {
    local size
    parse_arguments "$@"
    find_tools
    ask
    check_answers
    trap 'fail "interrupted: run this again to resume"' INT
    mkdir -p "$target" 2>/dev/null || fail "--target $target cannot be made: give another folder"
    get_plain LICENSE
    get_plain USE_POLICY.md
    get_listed tokenizer_checklist.chk tokenizer.model
    for size in $sizes; do
        get_model "$size"
    done
}

main "$@"
