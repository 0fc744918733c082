#!/usr/bin/env bash
# Everything that is measured on a GPU, within 8 minutes, in one process; --help tells the rest.
#
#   benchmarks/gpu.sh [ARGUMENT...]     as benchmarks/gpu.py has them; the same call again goes on
set -euo pipefail

exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/gpu.py" "$@"
