#!/usr/bin/env bash
# The tests of the core, and of what it assumes of Transformers, with another release of it than the lock file's.
#   tests/with_transformers.sh oldest    the oldest of the range in requirements.txt
#   tests/with_transformers.sh newest    the newest of that range
#   tests/with_transformers.sh next      the newest that there is, where that is beyond the range
# Each has an environment of its own, .venv-oldest and so on; PYTEST_ARGS narrows the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

which=${1:-} python=${PYTHON:-python3}
read -r oldest beyond < <(sed -nE 's/^transformers>=([0-9.]+),<([0-9.]+)$/\1 \2/p' requirements.txt)
case $which in
    oldest) wanted="transformers==$oldest" ;;
    newest) wanted="transformers>=$oldest,<$beyond" ;;
    next) wanted="transformers>=$beyond" ;;
    *) echo "usage: $0 oldest | newest | next" >&2 && exit 2 ;;
esac

if [[ $which == next ]]; then
    latest=$("$python" -m pip index versions transformers 2>/dev/null | sed -nE '1s/.*\((.*)\).*/\1/p') || true
    if [[ -z $latest ]]; then
        echo "the package index does not tell the newest Transformers: nothing was tried"
        exit 0
    fi
    if [[ $(printf '%s\n' "$latest" "$beyond" | sort -V | head -1) == "$latest" ]]; then
        echo "the newest Transformers, $latest, is within the range of requirements.txt: there is none to try beyond it"
        exit 0
    fi
fi

# What Transformers decides the version of is held to its range, not to the lock file; beyond the range, to nothing.
own="^(transformers|tokenizers|huggingface[-_]hub|hf[-_]xet|safetensors)[=>]" chosen="^transformers[=>]"
[[ $which != next ]] || chosen=$own
env=.venv-$which
[[ -x $env/bin/pip ]] || { rm -rf "$env" && "$python" -m venv "$env"; }
cat requirements.txt requirements-test.txt | grep -vE "$chosen" > "$env/requirements.txt"
grep -vE "$own" requirements.lock > "$env/constraints.txt"
# pip splits these at blanks, so they are relative.
PIP_CONSTRAINT=$env/constraints.txt PIP_BUILD_CONSTRAINT=$env/constraints.txt \
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy only-if-needed \
    -r "$env/requirements.txt" "$wanted"

"$env/bin/python" -c 'import torch, transformers; print("Transformers", transformers.__version__, "with torch", torch.__version__)'
in_range=tests/models/test_assumptions.py::TestVersions::test_this_release_is_within_it
[[ $which == next ]] && PYTEST_ARGS="--deselect $in_range ${PYTEST_ARGS:-}"
# shellcheck disable=SC2086
exec env PATH="$PWD/$env/bin:$PATH" "$env/bin/python" -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile \
    -m core ${PYTEST_ARGS:-}
