#!/usr/bin/env bash
# The archive of `edgefel pack` on aarch64, emulated: installs it, runs doctor, labels images in every precision that was
# packed, and compares the probabilities with those of this machine. Run by hand before a release.
#
#     tools/aarch64_check.sh [--work DIR] [--python PYTHON] [BUNDLE] > docs/results/aarch64.json
#
#   BUNDLE            a bundle of `edgefel export`; without one, the network that comes with edgefel
#   --work DIR        keeps the arm64 system and the wheels between runs, about 250 MB;
#                     default: ${XDG_CACHE_HOME:-~/.cache}/edgefel-aarch64
#   --python PYTHON   the Python of this machine, with edgefel installed; default: .venv/bin/python of this checkout
#
# The system is Debian 12 for arm64: its packages are unpacked and none of their scripts is run. Wheels for aarch64 have the
# versions that PYTHON has. The archive's own install.sh installs them, offline, without --service; with no GPU it builds no
# engine and compiles no pycuda. The processor has the features of a Jetson Orin's Cortex-A78AE (ARMv8.2, FP16, dot product).
#
# Needs Debian or Ubuntu, qemu-user-static 7.1, the network, and Linux 6.7: since then a user namespace has a binfmt_misc of
# its own. So it needs no root, and what is mounted ends with the namespace. $DEBIAN_MIRROR is another mirror. 6 minutes of
# a core. Exit code 1 if a precision is further from this machine than export/parity/limits.py allows.
set -euo pipefail

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}
say() { printf '%s\n' "$*" >&2; }

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/edgefel-aarch64
python=$checkout/.venv/bin/python
bundle=()
while [ $# -gt 0 ]; do
    case $1 in
    --work | --python) [ $# -ge 2 ] || fail "$1 needs a value; see $0 --help" ;;&
    --work) work=$2 && shift ;;
    --python) python=$2 && shift ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
    -*) fail "unknown option $1; see $0 --help" ;;
    *)
        [ ${#bundle[@]} = 0 ] || fail "one BUNDLE, not $1 as well"
        [ -f "$1/manifest.json" ] || fail "$1: is no bundle of edgefel export"
        bundle=("$1")
        ;;
    esac
    shift
done

PATH=$PATH:/usr/sbin:/sbin
for need in apt-get:apt dpkg-deb:dpkg unshare:util-linux mount:mount chroot:coreutils qemu-aarch64-static:qemu-user-static; do
    command -v "${need%:*}" >/dev/null || fail "no ${need%:*} here; on Debian and Ubuntu: sudo apt install ${need#*:}"
done
case $python in
*/*) python=$(cd "$(dirname "$python")" 2>/dev/null && pwd)/$(basename "$python") ;; # another folder is entered below
esac
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || fail "no $keyring; on Debian and Ubuntu: sudo apt install debian-archive-keyring"
"$python" -c 'import edgefel, pip' 2>/dev/null || fail "$python: has no edgefel, or no pip; make .venv with make install, or give --python"
unshare -Urmpf --kill-child sh -c 'mount -t binfmt_misc none /proc/sys/fs/binfmt_misc' 2>/dev/null ||
    fail "no binfmt_misc for a user namespace here; it needs Linux 6.7 or later and the right to make such namespaces"

mkdir -p "$work"
work=$(cd "$work" && pwd)
run=$(mktemp -d "$work/run.XXXXXX")
trap 'rm -rf "$run"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$run/here" "$run/there" "$run/tmp"

# --- the archive -------------------------------------------------------------------------------------------------------

edgefel=("$python" -m edgefel.cli.main)
"${edgefel[@]}" pack "${bundle[@]}" -o "$run/edge.tar" --no-kernels --json >"$run/packed.json" 2>"$run/log" ||
    fail "edgefel pack: $(sed -n 's/^error: //p' "$run/log")"
tar -xf "$run/edge.tar" -C "$run"
read -r index_sha256 precisions < <("$python" -c '
import json, sys
packed = json.load(sys.stdin)["deploy"]
print(packed["index_sha256"], *packed["precisions"])' <"$run/packed.json")

# --- the system: made once ---------------------------------------------------------------------------------------------

# a shell with what install.sh calls, a Python that makes environments, and the libraries that wheels expect of a system
packages=(bash dash coreutils sed grep python3-venv libgomp1 libstdc++6)
source="deb [arch=arm64 signed-by=$keyring] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main"
root=$work/root-$(printf '%s\n' "$source" "${packages[@]}" | sha256sum | cut -c1-12)
if [ ! -d "$root" ]; then
    say "fetching Debian's packages for arm64 into $root"
    apt=$run/apt
    mkdir -p "$apt"/{lists,archives}/partial "$run/root"/usr/{bin,sbin,lib}
    printf '%s\n' "$source" >"$apt/sources.list"
    : >"$apt/status"
    cat >"$apt/apt.conf" <<END
APT { Architecture "arm64"; Architectures { "arm64"; }; Install-Recommends "false"; Sandbox::User "$(id -un)"; };
Dir { State "$apt"; State::status "$apt/status"; Cache "$apt"; Etc::SourceList "$apt/sources.list"; Etc::SourceParts "-"; };
Acquire::Languages "none"; Debug::NoLocking "true";
END
    export APT_CONFIG=$apt/apt.conf
    { apt-get update && apt-get --yes --download-only install "${packages[@]}"; } >"$apt/log" 2>&1 </dev/null ||
        fail "Debian's packages could not be fetched: $(grep -m 1 '^[EW]:' "$apt/log" || tail -n 1 "$apt/log")"
    # Debian 12 has these folders in /usr alone, and its packages still say otherwise
    for folder in bin sbin lib; do ln -s "usr/$folder" "$run/root/$folder"; done
    for file in "$apt"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$file" | tar -x -C "$run/root" --keep-directory-symlink --no-same-owner
    done
    mkdir -p "$run/root"/{proc,sys,dev,mnt}
    unset APT_CONFIG
    mv -T "$run/root" "$root"
fi

# --- packages for it, and images -----------------------------------------------------------------------------------------

# what is installed here, as far as aarch64 has it: other versions would be another difference
"$python" -m pip --disable-pip-version-check list --format=freeze 2>/dev/null | grep -v '^edgefel==' >"$run/versions.txt"
"$python" -c '
from edgefel.deploy.on_device import base_requirements
print(*base_requirements("edgefel"), sep="\n")' >"$run/requirements.txt"
wheels=$work/wheels-$(cat "$run/versions.txt" "$run/requirements.txt" | sha256sum | cut -c1-12)
if [ ! -d "$wheels" ]; then
    say "fetching wheels for aarch64 into $wheels"
    platforms=(--platform manylinux2014_aarch64)
    for glibc in 17 24 26 27 28 31 34 35 36; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
    "$python" -m pip --disable-pip-version-check download --quiet "${platforms[@]}" --python-version 3.11 --implementation cp \
        --abi cp311 --abi abi3 --abi none --only-binary :all: --dest "$run/wheels" \
        --constraint "$run/versions.txt" --requirement "$run/requirements.txt" >"$run/log" 2>&1 </dev/null ||
        fail "wheels could not be fetched: $(grep -m 1 '^ERROR' "$run/log" || tail -n 1 "$run/log")"
    mv -T "$run/wheels" "$wheels"
fi
cp "$wheels"/*.whl "$run/edge/wheels/"
"${edgefel[@]}" data synth -o "$run/faces" --count 50 --workers 1 >/dev/null 2>&1

# --- labels, here and there ------------------------------------------------------------------------------------------------

describe='import json; from edgefel.bench.environment import describe; print(json.dumps(describe()))'
alike=(--backend onnxruntime --threads 1 --json)
first=${precisions%% *}

# FOLDER PYTHON: crops as they are in each precision, and faces that are searched in the same images
label() {
    "$2" -c "$describe" >"$1/machine.json"
    for precision in $precisions; do
        say "$(uname -m): $precision"
        "$2" -m edgefel.cli.main predict edge/model faces/images --no-detect --precision "$precision" "${alike[@]}" >"$1/$precision.jsonl"
    done
}

inside() {
    set -euo pipefail
    cd /mnt
    ./edge/install.sh --offline --index-sha256 "$index_sha256" >&2
    # without the hash: the environment is there now
    ./edge/install.sh --verify >&2
    ./edge/venv/bin/edgefel doctor edge/model --json >there/doctor.json
    label there ./edge/venv/bin/python
    ./edge/run.sh --source faces/images --detector haar --precision "$first" "${alike[@]}" >there/run.jsonl
}

# ROOT RUN: mounts what the system needs, and runs `inside` in it
enter() {
    set -euo pipefail
    # the bytes of an ELF file for aarch64; F: the emulator is opened now, outside of the root
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    ones='\xff\xff\xff\xff\xff\xff\xff'
    printf '%s' ":edgefel:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:$ones\x00$ones\xff\xfe\xff\xff\xff:$(command -v qemu-aarch64-static):OPF" \
        >/proc/sys/fs/binfmt_misc/register
    mount -t proc proc "$1/proc"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    mount --bind "$2" "$1/mnt"
    # ONNX Runtime 1.31 ends with a segmentation fault where it finds an x86 processor here
    for ((number = 0; number < $(nproc --all); number++)); do
        printf 'processor\t: %d\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n' "$number"
        printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd42\nCPU revision\t: 1\n\n'
    done >"$2/cpuinfo"
    mount --bind "$2/cpuinfo" "$1/proc/cpuinfo"
    chroot=$(command -v chroot)
    export HOME=/mnt TMPDIR=/mnt/tmp PATH=/usr/bin:/bin LC_ALL=C.UTF-8 QEMU_CPU=cortex-a76
    # compiling what is never imported takes minutes
    export PIP_NO_COMPILE=1 PYTHONDONTWRITEBYTECODE=1
    exec "$chroot" "$1" /bin/bash -c "$(declare -p index_sha256 precisions first describe alike); $(declare -f say label inside); inside"
}

cd "$run"
label here "$python"
"${edgefel[@]}" run edge/model --source faces/images --detector haar --precision "$first" "${alike[@]}" >here/run.jsonl
env -i PATH="$PATH" unshare -Urmpf --kill-child bash -c \
    "$(declare -p index_sha256 precisions first describe alike); $(declare -f say label inside enter); enter \"\$@\"" enter "$root" "$run" </dev/null ||
    fail "aarch64: the archive could not be installed and run, see above"
"$python" "$checkout/tools/aarch64_rows.py" "$run" --command "tools/aarch64_check.sh${bundle[0]:+ $(basename "${bundle[0]}")}"
