#!/usr/bin/env bash
# The kernels of tests/sm90 compiled for an H100, and interpreted, in an environment of its own, .venv-sm90: torch for the CPU, with the
# Triton of its CUDA build. SM=80 compiles for an A100; PYTEST_ARGS narrows the tests. A few minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

env=.venv-sm90 torch=2.13.0 triton=3.7.1
if [[ ! -e $env/whole ]]; then
    rm -rf "$env" && "${PYTHON:-python3}" -m venv "$env"
    pip=("$env/bin/python" -m pip install --quiet --disable-pip-version-check)
    wanted=(numpy einops pytest "$(sed -nE 's/^(transformers==.*)$/\1/p' requirements.lock)")
    "${pip[@]}" "torch==$torch+cpu" || "${pip[@]}" --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu"
    "${pip[@]}" "${wanted[@]}"
    "${pip[@]}" --no-deps "triton==$triton"
    mapfile -t flags < <("$env/bin/python" -c "
from torch.utils.cpp_extension import include_paths, library_paths
print(*(f'-I{path}' for path in include_paths()), *(f'-L{path}' for path in library_paths()), sep='\n')")
    "${CXX:-g++}" -std=c++20 -shared -fPIC tests/sm90/guard.cpp -o "$env/libguard.so" "${flags[@]}" -lc10
    touch "$env/whole"
fi

# tests/conftest.py would import torch before it is made to believe in the device.
run() {
    # shellcheck disable=SC2086
    SM90_GUARD=$env/libguard.so "$env/bin/python" -m pytest -q -p no:cacheprovider --confcutdir tests/sm90 \
        -o python_files='*_kernels.py' "$1" ${PYTEST_ARGS:-} || (($? == 5))  # none of them chosen
}
run tests/sm90/attention_kernels.py
TRITON_INTERPRET=1 run tests/sm90/interpreted_kernels.py  # Triton reads it once, so in a process of its own
