#!/bin/sh
# Installs edgefel and this folder's model on a Jetson (JetPack 6 or 7) or another Linux machine.
# Running it again repairs or updates the installation. Nothing is done as root, except with --service.
# Nothing of this folder is run or installed before its files were compared with index.json.
set -eu

usage() {
    cat <<'END'
usage: ./install.sh [options]

Makes a virtual environment, installs edgefel into it, checks the machine (edgefel doctor) and builds the
TensorRT engine of the model (edgefel engine), which takes minutes the first time.

  --prefix DIR     install there instead of into this folder
  --precision P    fp32, fp16, int8, int8+fp16, fp8, w8a16 or w4a16: what the engine is built of and run.sh runs
  --no-engine      build no engine now; run.sh does it when it first starts
  --offline        use no network: take packages from wheels/ alone (README.md says how to fill it)
  --service        also install, enable and start the systemd service edgefel (asks for sudo)
  --service-user U the user it runs as, never root; without it, the one who calls this
  --index-sha256 H SHA-256 of index.json, as `edgefel pack` printed it: this folder must be what was packed, exactly
  --verify         compare the files with index.json and end
  --check          say what is here and what would be done; change nothing
  -h, --help       this text

The Python to use is python3, or $PYTHON.
END
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
prefix=$here
precision=
engine=yes
offline=no
service=no
service_user=
index_sha256=
verify=no
check=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --precision | --service-user | --index-sha256)
        [ $# -ge 2 ] || fail "$1 needs a value; see ./install.sh --help"
        given="$1=$2"
        shift 2
        set -- "$given" "$@"
        continue
        ;;
    --prefix=*) prefix=${1#*=} ;;
    --precision=*) precision=${1#*=} ;;
    --service-user=*) service_user=${1#*=} service=yes ;;
    --index-sha256=*)
        index_sha256=${1#*=}
        [ -n "$index_sha256" ] || fail "--index-sha256: give the 64 digits that 'edgefel pack' printed"
        ;;
    --verify) verify=yes ;;
    --no-engine) engine=no ;;
    --offline) offline=yes ;;
    --service) service=yes ;;
    --check) check=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) fail "unknown option $1; see ./install.sh --help" ;;
    esac
    shift
done
case $precision in
'' | fp32 | fp16 | int8 | int8+fp16 | fp8 | w8a16 | w4a16) ;;
*) fail "--precision $precision: choose fp32, fp16, int8, int8+fp16, fp8, w8a16 or w4a16" ;;
esac
[ -n "$prefix" ] || fail "--prefix: give a folder"
case $prefix in
/*) ;;
*) prefix=$PWD/$prefix ;;
esac

# --- what is here -----------------------------------------------------------------------------------------------

# The first line is such as "# R36 (release), REVISION: 4.3, GCID: ..., BOARD: generic". The variable is for tests.
release_file=${EDGEFEL_TEGRA_RELEASE:-/etc/nv_tegra_release}
jetson=no
if [ -r "$release_file" ]; then
    jetson=yes
    l4t=$(sed -n 's/^# *R\([0-9][0-9]*\).*REVISION: *\([0-9.]*\).*/\1.\2/p' "$release_file" | head -n 1)
    case ${l4t%%.*} in
    36) say "JetPack 6 (L4T $l4t)" ;;
    38 | 39) say "JetPack 7 (L4T $l4t)" ;;
    '') warn "$release_file: cannot read the release; going on" ;;
    *)
        if [ "${l4t%%.*}" -lt 36 ]; then
            fail "L4T $l4t is too old: edgefel needs JetPack 6 (L4T 36) or later; install it with NVIDIA's SDK Manager"
        fi
        warn "L4T $l4t is unknown to this script, which was written for JetPack 6 and 7; going on"
        ;;
    esac
else
    say "no Jetson ($(uname -m)): installing for this machine"
fi

# --- what was packed --------------------------------------------------------------------------------------------

# Python looks for modules neither here nor in the environment (-I): a file of this folder must not be run before it
# was looked at. The names that an installation makes itself are known below.
check_files() {
    "$python" -I - "$here" "$index_sha256" "$1" <<'END'
import hashlib, json, os, re, stat, sys

folder, given, mode = sys.argv[1:]


def refuse(text):
    sys.stderr.write(f"error: {folder}: {text}; copy the whole folder again\n")
    sys.exit(2)


def data_of(name):
    path = os.path.join(folder, name)
    for part in [path] + [os.path.join(folder, *name.split("/")[:n]) for n in range(1, name.count("/") + 1)]:
        if os.path.islink(part):
            refuse(f"{os.path.relpath(part, folder)!r} is a link")
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            refuse(f"{name!r} is no plain file")
        with open(path, "rb") as stream:
            if name.endswith(".json"):
                text = stream.read(16 << 20)
                return hashlib.sha256(text + stream.read(1)).hexdigest(), text
            digest = hashlib.sha256()
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
            return digest.hexdigest(), b""
    except FileNotFoundError:
        return None, b""
    except OSError as error:
        refuse(f"{name!r} cannot be read ({error.strerror})")


def without_engines(text):
    """SHA-256 of a manifest as it was packed: engines join it on the device."""
    try:
        manifest = json.loads(text)
        manifest["files"] = [file for file in manifest["files"] if file["kind"] != "engine"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    packed = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    return hashlib.sha256(packed.encode(errors="surrogatepass")).hexdigest()


digest, text = data_of("index.json")
if given and digest != given.lower():
    refuse(f"index.json has the SHA-256 {digest}, and {given} was asked for")
try:
    index = json.loads(text)
    files = {name: row["sha256"] for name, row in index["files"].items()}
    version = index["edgefel"]
    assert index["format"] == "edgefel-deploy" and index["version"] == 1 and files
    for name in files:
        assert not re.search(r"[\\\x00-\x1f\x7f]", name) and not {"", ".", ".."} & set(name.split("/")), name
    assert re.fullmatch(r"[0-9][\w.+-]*", version, re.ASCII)
    assert f"wheels/edgefel-{version}-py3-none-any.whl" in files
except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError):
    refuse("index.json is damaged, or not of 'edgefel pack'")
for name, wanted in files.items():
    found, text = data_of(name)
    if found is None:
        refuse(f"{name!r} is missing")
    if found != wanted and not (name == "model/manifest.json" and not given and without_engines(text) == wanted):
        refuse(f"{name!r} is not what was packed")
added = []
for place, folders, names in os.walk(folder):
    if mode == "installed":
        break
    inside = "" if place == folder else os.path.relpath(place, folder) + "/"
    if not inside and not given:
        folders[:] = [name for name in folders if name not in ("venv", "cache")]
    for name in names + [name for name in folders if os.path.islink(os.path.join(place, name))]:
        name = inside + name
        if name in files or name == "index.json":
            continue
        if mode == "offline" and re.fullmatch(r"wheels/[^/]+\.(whl|tar\.gz|zip)", name):
            added.append(name)
        elif given or not (name in ("local.env", "service.env", "cache") or name.startswith("model/")):
            refuse(f"{name!r} is not of what was packed: move it elsewhere, or")
        if not stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode) and name != "cache":
            refuse(f"{name!r} is no plain file")
print(f"{len(files)} files as they were packed; SHA-256 of index.json: {digest}")
if added:
    print(f"not checked, since they were added to wheels/ for --offline: {len(added)}, such as {added[0]!r}")
END
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || fail "no $python; on Debian and Ubuntu: sudo apt install python3 python3-venv"
"$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1) is too old, edgefel needs 3.10 or later; set PYTHON to another one"
"$python" -I -c 'import venv, ensurepip' 2>/dev/null ||
    fail "this Python cannot make virtual environments; on Debian and Ubuntu: sudo apt install python3-venv"
say "$("$python" --version 2>&1)"

if [ ! -f "$here/index.json" ] || [ ! -d "$here/wheels" ]; then
    fail "$here: is not a whole folder of 'edgefel pack'; copy it again"
fi
mode=install
if [ "$offline" = yes ]; then mode=offline; fi
# what joins an installed folder later is the user's own
if [ "$verify" = yes ] && [ -d "$here/venv" ] && [ -z "$index_sha256" ]; then mode=installed; fi
check_files "$mode"
if [ "$verify" = yes ]; then exit 0; fi
# another program's index.json is no reason to remove folders
if [ "$prefix" != "$here" ] && [ -d "$prefix" ] && [ -n "$(ls -A "$prefix")" ] &&
    ! grep -q '"format": "edgefel-deploy"' "$prefix/index.json" 2>/dev/null; then
    fail "$prefix: is not empty and holds no earlier installation; choose another folder"
fi
if [ "$service" = yes ]; then
    case $prefix in
    *[!A-Za-z0-9_./-]*) fail "--service: systemd needs a path of letters, digits and _ . / - alone, not $prefix" ;;
    esac
    command -v systemctl >/dev/null 2>&1 || fail "--service: there is no systemd here; leave it out"
    # the user who called, also through sudo
    user=${service_user:-${SUDO_USER:-$(id -un)}}
    case $user in
    -* | *[!A-Za-z0-9_.-]*) fail "--service: systemd takes no user of the name $user" ;;
    esac
    uid=$(id -u "$user" 2>/dev/null) || fail "--service: there is no user $user; make one, or name another with --service-user"
    [ "$uid" -ne 0 ] || fail "--service: it never runs as root; say --service-user NAME, or install as that user"
fi
if [ "$check" = yes ]; then
    say "would install into $prefix"
    exit 0
fi

# --- files ------------------------------------------------------------------------------------------------------

mkdir -p "$prefix"
prefix=$(CDPATH='' cd -- "$prefix" && pwd -P)
if [ "$prefix" != "$here" ]; then
    # of an earlier installation; its engines come back out of the cache
    (cd "$prefix" && rm -rf model kernels wheels licences)
    for part in model kernels wheels licences README.md edgefel.service install.sh run.sh precision.env index.json; do
        if [ -e "$here/$part" ]; then cp -R "$here/$part" "$prefix/"; fi
    done
fi
if [ -n "$precision" ]; then
    printf 'GPU_PRECISION=%s\nCPU_PRECISION=%s\n' "$precision" "$precision" >"$prefix/local.env"
fi

# --- packages ---------------------------------------------------------------------------------------------------

venv=$prefix/venv
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making a virtual environment in $venv"
    # the system's packages are seen in it: JetPack's TensorRT and OpenCV come from there
    "$python" -m venv --clear --system-site-packages "$venv"
fi

install_packages() {
    if [ "$offline" = yes ]; then
        "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-index --find-links "$prefix/wheels" "$@"
    else
        "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --find-links "$prefix/wheels" "$@"
    fi
}

ask() { PYTHONPATH=$wheel "$venv/bin/python" -m edgefel.deploy.on_device "$@"; }

# edgefel answers out of its wheel, and is installed last and without its dependencies: pip does not see that the
# system's cv2 is the OpenCV that edgefel asks for, and would put its own before it, or complain
version=$(sed -n 's/^  "edgefel": "\([^"]*\)".*/\1/p' "$prefix/index.json")
wheel=$prefix/wheels/edgefel-$version-py3-none-any.whl
[ -f "$wheel" ] || fail "$wheel: no such file; copy the whole folder again"
# twice, because OpenCV can be tried only when NumPy is there
for _ in 1 2; do
    missing=$(ask requirements)
    [ -n "$missing" ] || break
    say "installing $(printf '%s' "$missing" | tr '\n' ' ')"
    printf '%s\n' "$missing" >"$venv/missing.txt"
    install_packages -r "$venv/missing.txt" ||
        fail "packages could not be installed; connect to the internet, or fill wheels/ as README.md says"
done
missing=$(ask requirements)
[ -z "$missing" ] || fail "still missing after installing: $missing"

if reason=$(ask gpu); then
    if ! "$venv/bin/python" -c 'import pycuda, sys; sys.exit(pycuda.VERSION < (2025, 1, 2))' 2>/dev/null; then
        PATH=$PATH:/usr/local/cuda/bin
        export PATH
        say "installing pycuda; it is compiled here, which takes some minutes"
        if ! command -v nvcc >/dev/null 2>&1; then
            warn "no nvcc, which pycuda is compiled with: install the CUDA toolkit (sudo apt install nvidia-jetpack) and run this again"
        elif ! install_packages 'pycuda>=2025.1.2'; then
            warn "pycuda was not compiled (see above; it needs: sudo apt install build-essential python3-dev); run this again"
        fi
    fi
else
    say "no engine and no pycuda: $reason"
    engine=no
fi
say "installing edgefel $version"
install_packages --no-deps --force-reinstall "$wheel"

# --- check, engine, service -------------------------------------------------------------------------------------

EDGEFEL_CACHE=${EDGEFEL_CACHE:-$prefix/cache}
export EDGEFEL_CACHE
say "checking this machine and the model"
"$venv/bin/edgefel" doctor "$prefix/model" ||
    fail "edgefel is installed in $prefix and cannot run yet: follow what is said above and run this again"
if [ "$engine" = yes ]; then "$prefix/run.sh" --prepare; fi

if [ "$service" = yes ]; then
    say "installing the service: /etc/systemd/system/edgefel.service, run as $user, started now and at every boot"
    sed -e "s|/opt/edgefel|$prefix|g" -e "s|^User=.*|User=$user|" "$prefix/edgefel.service" >"$venv/edgefel.service"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
    if [ "$user" != "$(id -un)" ]; then
        # engines join the model; the rest of the installation stays its installer's
        mkdir -p "$prefix/cache"
        $as_root chown -R "$user" "$prefix/model" "$prefix/cache"
    fi
    $as_root install -m 0644 "$venv/edgefel.service" /etc/systemd/system/edgefel.service
    $as_root systemctl daemon-reload
    $as_root systemctl enable edgefel.service
    $as_root systemctl restart edgefel.service
    say "see it at work: journalctl -u edgefel -f"
fi

say "installed in $prefix"
if [ "$jetson" = yes ]; then say "for full speed: sudo nvpmodel -m 0 && sudo jetson_clocks"; fi
say "start: $prefix/run.sh --source 0      (camera 0; also csi, rtsp://..., a video, a folder)"
