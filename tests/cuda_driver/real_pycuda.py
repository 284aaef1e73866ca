"""pycuda for the tests. `python tests/cuda_driver/real_pycuda.py` compiles it once per machine and version.

It is linked to a library of another name than libcuda.so.1: it runs over the driver of this folder only, never over a
real one. It lies outside the environment, where pycuda remains missing for the other tests.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "2026.1"
LIBRARY = "libedgefel-test-cuda.so"

# pycuda's setup.py runs this file: without cuRAND, whose headers the toolkit may lack, and not one file after the other
SITECONF = """
CUDA_ROOT = {root!r}
CUDADRV_LIB_DIR = [{stub!r}]
CUDADRV_LIBNAME = [{name!r}]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O0", "-g0"]
"""
PARALLEL = """
import os as _os
from concurrent.futures import ThreadPoolExecutor as _Pool
from setuptools._distutils import ccompiler as _ccompiler


def _compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
             extra_postargs=None, depends=None):
    macros, objects, postargs, options, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    flags = self._get_cc_args(options, debug, extra_preargs)
    with _Pool(_os.cpu_count()) as pool:
        list(pool.map(lambda made: self._compile(made, *build[made], flags, postargs, options), build))
    return objects


_ccompiler.CCompiler.compile = _compile
"""


def toolkit() -> Path | None:
    """The folder of a CUDA toolkit: it has `include/cuda.h`."""
    nvcc = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_ROOT"), "/usr/local/cuda"]
    candidates += [str(Path(nvcc).resolve().parent.parent)] if nvcc else []
    return next((Path(c) for c in candidates if c and (Path(c) / "include/cuda.h").is_file()), None)


def cuda_version(root: Path) -> str:
    """Such as 13000 for CUDA 13.0."""
    found = re.search(r"^#define\s+CUDA_VERSION\s+(\d+)", (root / "include/cuda.h").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def folder(root: Path) -> Path:
    """Where pycuda for this Python and toolkit lies, or will."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = f"pycuda-{VERSION}-{sys.implementation.cache_tag}-{os.uname().machine}-cuda{cuda_version(root)}"
    return cache / "edgefel-ci" / key


def build(root: Path, target: Path) -> None:
    """Downloads and compiles pycuda into `target`: minutes. Raises CalledProcessError where that fails."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "download", "--no-deps", "--no-binary=pycuda", "-d", work, f"pycuda=={VERSION}"],
            check=True,
        )
        shutil.unpack_archive(work / f"pycuda-{VERSION}.tar.gz", work, filter="data")
        source = work / f"pycuda-{VERSION}"
        # only its name is wanted, whatever it defines: the functions are found when the module is loaded
        stub = ["cc", "-shared", f"-Wl,-soname,{LIBRARY}", "-o", work / LIBRARY, "-x", "c", "/dev/null"]
        subprocess.run(stub, check=True)
        name = LIBRARY.removeprefix("lib").removesuffix(".so")
        (source / "siteconf.py").write_text(SITECONF.format(root=str(root), stub=made, name=name))
        setup = source / "setup.py"
        setup.write_text(PARALLEL + setup.read_text().replace("from __future__ import annotations\n", ""))
        environment = os.environ | {"LDFLAGS": "-Wl,--no-as-needed"}
        subprocess.run([*pip, "install", "--target", target, source], check=True, env=environment)


def main() -> None:
    if (root := toolkit()) is None:
        raise SystemExit("no CUDA toolkit: pycuda cannot be compiled, and the tests that need it skip")
    target = folder(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            part = target.with_name(f"{target.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            build(root, part)
            part.rename(target)
    print(target)


if __name__ == "__main__":
    main()
