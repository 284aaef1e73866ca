#!/usr/bin/env bash
# Makes an environment with NVIDIA's tritonserver, once per machine and set of versions, for the tests that serve a repository.
#
#   tools/ci/tritonserver.sh           makes it where it is missing, and prints its folder
#   tools/ci/tritonserver.sh --where   prints its folder, which need not exist
#
# The server is that of PyPI's nvidia-pytriton (2.51, 24.10): a real one, with the Python backend alone. Its Python
# models get what docs/serving.md installs in the container, and ONNX Runtime for the network. FOLDER/bin/tritonserver
# starts it. Needs a python3 for which all of these have wheels and which has a shared libpython.
set -euo pipefail
server=nvidia-pytriton==0.7.0
packages=(numpy==1.26.4 opencv-python-headless==4.11.0.86 onnxruntime==1.31.1)
python=${PYTHON:-python3}

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# what the environment holds, and how it is made here
key=$({ cat "${BASH_SOURCE[0]}"; echo "$version"; } | sha256sum | cut -c1-12)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/edgefel-ci/tritonserver-$key
if [ "${1:-}" = --where ] || [ -x "$folder/bin/tritonserver" ]; then
    echo "$folder"
    exit
fi

mkdir -p "$(dirname "$folder")"
part=$(mktemp -d "$folder.part.XXXXXX")
trap 'rm -rf "$part"' EXIT
"$python" -m venv --without-pip "$part"
# to the messages: standard output is the folder alone
install=("$python" -m pip --python "$part/bin/python" --quiet --disable-pip-version-check install)
{
    "${install[@]}" "${packages[@]}"
    # without its dependencies: they are those of its own Python interface
    "${install[@]}" --no-deps "$server"
} >&2
triton=lib/python$version/site-packages/pytriton/tritonserver
# the process of a model, by version of Python
cp "$part/$triton/python_backend_stubs/$version/triton_python_backend_stub" "$part/$triton/backends/python/"
chmod +x "$part/$triton/bin/tritonserver" "$part/$triton/backends/python/triton_python_backend_stub"
libraries=$("$part/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
if LD_LIBRARY_PATH=$libraries ldd "$part/$triton/backends/python/triton_python_backend_stub" | grep 'not found' >&2; then
    echo "tritonserver: its process for Python models lacks these libraries" >&2
    exit 1
fi
# a model's process looks for its packages beside the first python3 on the path
cat > "$part/bin/tritonserver" <<END
#!/bin/sh
export PATH="$folder/bin:\$PATH" LD_LIBRARY_PATH="$libraries"
exec "$folder/$triton/bin/tritonserver" --backend-directory="$folder/$triton/backends" "\$@"
END
chmod +x "$part/bin/tritonserver"
# another run may have made it meanwhile
mv -T "$part" "$folder" 2>/dev/null || [ -x "$folder/bin/tritonserver" ]
echo "$folder"
