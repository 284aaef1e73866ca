#!/bin/sh
# Everything that the first minutes of a GPU must answer, in one call of at most 545 s: see tools/gpu_session.py.
#
#     OUT=results sh tools/gpu_session.sh              on the machine with the GPU, in a checkout
#     OUT=/tmp/dry sh tools/gpu_session.sh --dry-run   here: no GPU, tiny problems, a pretended clock
cd "$(dirname "$0")/.." || exit 2
exec "${PYTHON:-python3}" tools/gpu_session.py "$@"
