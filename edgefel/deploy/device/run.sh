#!/bin/sh
# Runs the model on a camera, stream, video or folder: run.sh [options of `edgefel run`], by default --source 0.
# Where TensorRT and a GPU are found, the engine is built before the first start, which takes minutes.
#   run.sh --prepare    builds the engine and runs nothing
# Everything said by this script goes to stderr: stdout belongs to `edgefel run`.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
say() { printf '%s\n' "$*" >&2; }

[ -x "$here/venv/bin/edgefel" ] || {
    say "error: edgefel is not installed here; run $here/install.sh first"
    exit 2
}
# the last line counts: local.env is of ./install.sh --precision. They are read, not run
setting() { cat "$here/precision.env" "$here/local.env" 2>/dev/null | sed -n "s/^$1=\([a-z0-9+]*\)\$/\1/p" | tail -n 1; }
GPU_PRECISION=$(setting GPU_PRECISION)
CPU_PRECISION=$(setting CPU_PRECISION)
# engines and kernel timings are kept here, for the service as for everybody
EDGEFEL_CACHE=${EDGEFEL_CACHE:-$here/cache}
export EDGEFEL_CACHE

prepare=no
if [ "${1:-}" = --prepare ]; then
    prepare=yes
    shift
fi
precision=
source=no
backend=auto
value_of=
for word in "$@"; do
    case $value_of in
    precision) precision=$word ;;
    backend) backend=$word ;;
    esac
    value_of=
    case $word in
    --precision) value_of=precision ;;
    --precision=*) precision=${word#*=} ;;
    --backend) value_of=backend ;;
    --backend=*) backend=${word#*=} ;;
    --source | --source=*) source=yes ;;
    -h | --help) exec "$here/venv/bin/edgefel" run --help ;;
    esac
done
given=$precision
# what was packed is still that; says what is wrong
"$here/install.sh" --verify >/dev/null

case $backend in
auto | tensorrt)
    if reason=$("$here/venv/bin/python" -m edgefel.deploy.on_device engines); then
        precision=${given:-$GPU_PRECISION}
        # an engine that fits is kept; "int8+fp16" is what `edgefel engine` calls int8
        "$here/venv/bin/edgefel" engine "$here/model" --precision "${precision%%+*}" >&2
    else
        precision=${given:-$CPU_PRECISION}
        say "no TensorRT engine: $reason"
    fi
    ;;
onnxruntime-*) precision=${given:-$GPU_PRECISION} ;;
*) precision=${given:-$CPU_PRECISION} ;;
esac
if [ "$prepare" = yes ]; then exit 0; fi

if [ -z "$given" ]; then
    say "precision $precision (another one: --precision)"
    set -- "$@" --precision "$precision"
fi
if [ "$source" = no ]; then set -- "$@" --source 0; fi
exec "$here/venv/bin/edgefel" run "$here/model" "$@"
