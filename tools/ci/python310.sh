#!/usr/bin/env bash
# Runs the runtime's tests on Python 3.10, that of JetPack 6, without PyTorch.
#
# What edgefel needs is installed once per machine and set of versions; edgefel itself is installed anew each time.
# Without a Python 3.10 or a registry it says so and succeeds; versions that do not exist are an error. PYTHON310 names
# another interpreter. Arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
packages=(
    # the base install
    numpy==2.2.6 opencv-python-headless==4.14.0.94 onnxruntime==1.23.2 click==8.5.1 rich==15.0.0 prometheus-client==0.26.0
    # what the tests use
    paho-mqtt==2.2.0 pyarrow==25.0.1 onnx==1.23.2 hypothesis==6.168.5 jinja2==3.1.6 matplotlib==3.10.9 pytest==9.2.0 pytest-timeout==2.4.0 pytest-xdist==3.8.0
)

python=
for candidate in "${PYTHON310:-python3.10}" "$HOME"/.pyenv/versions/3.10.*/bin/python; do
    # a launcher of pyenv may be there without the version behind it
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "no Python 3.10 here: the runtime's tests are not run on it" >&2
    exit
fi

key=$({ cat "${BASH_SOURCE[0]}"; "$python" --version; } | sha256sum | cut -c1-12)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/edgefel-ci/python310-$key
pip=(python3 -m pip --quiet --disable-pip-version-check)
if [ ! -x "$folder/bin/python" ]; then
    mkdir -p "$(dirname "$folder")"
    part=$(mktemp -d "$folder.part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    "$python" -m venv --without-pip "$part"
    if ! "${pip[@]}" --python "$part/bin/python" install "${packages[@]}" 2>"$part/errors"; then
        cat "$part/errors" >&2
        # a registry that answered, and has no such version, or none that goes with the others
        grep -qE 'from versions: [0-9]|ResolutionImpossible' "$part/errors" && exit 1
        echo "the packages for Python 3.10 cannot be installed: the runtime's tests are not run on it" >&2
        exit
    fi
    # another run may have made it meanwhile
    mv -T "$part" "$folder" 2>/dev/null || [ -x "$folder/bin/python" ]
fi
edgefel=$(mktemp -d)
trap 'rm -rf "$edgefel"' EXIT
"${pip[@]}" --python "$folder/bin/python" install --no-deps --target "$edgefel" "$root"
cd "$edgefel" # in the repository, its folder edgefel would be imported, which lacks the folders beside it
"$folder/bin/python" -c 'import edgefel.bench, importlib.util as u, sys; sys.exit(u.find_spec("torch") is not None)'
# the real streams wait for their clocks, whatever the Python
"$folder/bin/python" -m pytest -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider -q -n auto --dist loadfile \
    -m "not slow" --ignore-glob "$root/*_rtsp.py" "${@:-$root/tests/runtime}"
