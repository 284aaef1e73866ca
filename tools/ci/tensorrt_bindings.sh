#!/usr/bin/env bash
# Fetches TensorRT's Python bindings for the tests of tests/real_tensorrt, once per machine.
#
#   tools/ci/tensorrt_bindings.sh [PYTHON]
#
# Each version of tensorrt_bindings.txt goes into a folder of its own, about 5 MB:
# ${XDG_CACHE_HOME:-~/.cache}/edgefel-ci/tensorrt-bindings/cp311/10.3.0/tensorrt for Python 3.11. The package is named
# `tensorrt` there, as JetPack installs it. The libraries it needs are not on PyPI; the tests compile a stub of them.
# What cannot be fetched is reported, and its tests skip: the exit status is 0.
set -euo pipefail
python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
tag=$("$python" -c 'import sys; print("cp{}{}".format(*sys.version_info))')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/edgefel-ci/tensorrt-bindings/$tag
mkdir -p "$cache"
room=$(mktemp -d "$cache/.unfinished-XXXXXX")
trap 'rm -rf "$room"' EXIT

while read -r requirement; do
    version=${requirement##*==}
    [ -d "$cache/$version" ] && continue
    mkdir "$room/$version"
    if "$python" -m pip download --quiet --disable-pip-version-check --timeout 30 --retries 1 --no-deps \
        --only-binary :all: --dest "$room/wheels" "$requirement" >"$room/log" 2>&1 </dev/null &&
        "$python" -m zipfile -e "$room/wheels"/*"-$version-"*.whl "$room/$version" &&
        mv "$room/$version/tensorrt_bindings" "$room/$version/tensorrt"; then
        # another run may have put it there meanwhile
        mv -T "$room/$version" "$cache/$version" 2>/dev/null || [ -d "$cache/$version" ]
    else
        echo "no $requirement for $tag: its tests will skip ($(grep -v WARNING "$room/log" | head -n 1))" >&2
    fi
done < <(grep -v '^#' "$here/tensorrt_bindings.txt")
