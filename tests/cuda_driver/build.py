"""Builds the driver of this folder with the system's C compiler, in seconds."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from cuda_driver.real_pycuda import LIBRARY, toolkit

HERE = Path(__file__).parent


def missing() -> str | None:
    """Why the driver cannot be built here."""
    if toolkit() is None:
        return "needs NVIDIA's cuda.h, of a CUDA toolkit in CUDA_HOME, beside nvcc or in /usr/local/cuda"
    return None if shutil.which("cc") else "needs a C compiler, cc"


def build(folder: Path) -> Path:
    """Makes the folder with the library. Raises CalledProcessError where it does not compile."""
    folder.mkdir()
    compiler = ["cc", f"-I{toolkit()}/include"]
    flags = ["-O1", "-g", "-fPIC", "-fvisibility=hidden", "-Wall", "-pthread"]
    driver = str(folder / "driver.o")
    subprocess.run([*compiler, *flags, "-c", str(HERE / "driver.c"), "-o", driver], check=True)
    (folder / "missing.c").write_text(_missing_functions(compiler, driver))
    library = folder / LIBRARY
    link = ["cc", "-shared", "-fPIC", "-pthread", f"-Wl,-soname,{LIBRARY}", "-o", str(library)]
    subprocess.run([*link, driver, str(folder / "missing.c")], check=True)
    return library


def _missing_functions(compiler: list[str], driver: str) -> str:
    """C source: every function of the driver API that the object file lacks reports itself and fails."""
    headers = "#include <cuda.h>\n#include <cudaProfiler.h>\n"
    run = {"capture_output": True, "text": True, "check": True}
    declared = subprocess.run([*compiler, "-E", "-P", "-x", "c", "-"], input=headers, **run).stdout
    names = set(re.findall(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(", declared))
    defined = subprocess.run(["nm", "--defined-only", driver], **run).stdout
    names -= set(re.findall(r"\bT (\w+)", defined))
    lines = [f'int {name}(void) {{ return testcuda_missing("{name}"); }}' for name in sorted(names)]
    return "\n".join(["int testcuda_missing(const char *);", *lines, ""])
