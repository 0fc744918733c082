#!/usr/bin/env bash
# Everything that is measured on a GPU, within 8 minutes; an ARGUMENT is a benchmark's name, as benchmarks/all.sh has it.
#
#   benchmarks/gpu.sh [ARGUMENT...]
set -euo pipefail

SECONDS_IN_ALL=${SECONDS_IN_ALL:-450} exec "$(dirname "${BASH_SOURCE[0]}")/all.sh" cuda "$@"
