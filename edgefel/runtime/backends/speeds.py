"""How fast each backend is with each file: the rule behind `--backend auto`, and behind its warnings.

A measurement of this machine (`edgefel bench pick`) decides. Without one, committed rows of another machine do for
CPUs; on a GPU nothing has been measured, and FP16 comes first, which is nearly exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgefel.runtime.backends.base import BACKENDS
from edgefel.runtime.manifest import PRECISIONS, BundleFile, Manifest
from edgefel.runtime.measurement import Measurement, find_measurement
from edgefel.runtime.shipped import bundle_command
from edgefel.text import counted

SMALL_GMAC = 1.0
# Milliseconds of one face on one thread of a CPU: `arbex` and `arbex-nano` of docs/results/latency-2core.jsonl, for
# networks of SMALL_GMAC and more and for smaller ones, whose INT8 file ONNX Runtime converts for longer than it saves.
LARGE = {
    "onnxruntime": {"fp32": 237.4, "fp16": 247.4, "int8": 106.0, "int8+fp16": 672.4},
    "openvino": {"fp32": 227.1, "fp16": 217.6, "int8": 74.2, "int8+fp16": 69.2},
}
SMALL = {
    "onnxruntime": {"fp32": 7.6, "fp16": 9.1, "int8": 10.3, "int8+fp16": 21.3},
    "openvino": {"fp32": 10.6, "fp16": 7.8, "int8": 10.6, "int8+fp16": 8.0},
}
_ON_GPU = {
    "tensorrt": ("fp16", "int8+fp16", "fp32", "int8"),
    "onnxruntime-tensorrt": ("fp16", "int8+fp16", "fp32", "int8"),
    "onnxruntime-cuda": ("fp16", "fp32", "int8+fp16", "int8"),
}
NEARLY_EXACT = ("fp32", "fp16")  # files that need not have passed a comparison to be trusted
# INT8 and FP16 must be faster than FP32 by this share to be taken for it
_WORTH = 1.03
# times FP32's duration above which a choice is called slower; FP32 itself, against FP32 in another backend
_SLOWER, _SLOWER_FP32 = 1.04, 1.1


@dataclass(frozen=True)
class Speeds:
    """Durations of a bundle's files by the measurement, or without one by the rules.

    threads: CPU threads of a call.
    """

    manifest: Manifest
    threads: int
    measured: Measurement | None = None

    @classmethod
    def here(cls, manifest: Manifest, threads: int) -> Speeds:
        """By the stored measurement of this machine, if there is one."""
        return cls(manifest, threads, find_measurement(manifest, threads))

    def ms(self, backend: str, file: BundleFile) -> float | None:
        """Milliseconds of one image; None where it is not known. All that is known comes from one source."""
        if self.measured is not None:
            return self.measured.ms.get((backend, file.name))
        return self._rules.get(backend, {}).get(file.precision)

    def key(self, backend: str, file: BundleFile) -> tuple[float, ...]:
        """Sorts backends and files, the one to take first.

        GPUs' backends that were not measured, in their order, since one that could not be may work by now; what was
        measured, by its duration; then CPUs' by the rules. A file that is not NEARLY_EXACT and did not plainly pass its
        comparison comes after those that did, a failed one last.
        """
        verdict = self.manifest.judged(file).verdict
        trusted = verdict == "pass" or file.precision in NEARLY_EXACT
        rank = 2 if verdict == "fail" else 0 if trusted else 1
        worth = 1.0 if file.precision == "fp32" else _WORTH
        if self.measured is not None and (ms := self.ms(backend, file)) is not None:
            return 1, rank, ms * worth
        if (ms := self._rules.get(backend, {}).get(file.precision)) is not None:
            return 2, rank, ms * worth
        position = list(BACKENDS).index(backend) if backend in BACKENDS else len(BACKENDS)
        order = (*_ON_GPU.get(backend, ()), *PRECISIONS)
        group = 3 if rank == 2 and self.measured is not None else 0
        return group, position, rank, order.index(file.precision)

    def basis(self, backend: str, file: BundleFile) -> str:
        """Why the file and the backend were taken, in one line."""
        if self.measured is not None and (ms := self.ms(backend, file)) is not None:
            threads = counted(self.measured.threads, "thread")
            return (
                f"{ms:.3g} ms an image with {threads}, measured on this machine with "
                f"{counted(len(self.measured.ms) - 1, 'alternative')}"
            )
        if backend in self._rules:
            size = "below" if self.manifest.model.gmac < SMALL_GMAC else "from"
            what = f"measured on another CPU, for networks {size} {SMALL_GMAC:g} GMAC"
        else:
            what = "a GPU comes first, FP16 before INT8; none was measured"
        command = bundle_command("bench pick", self.manifest.folder)
        return f"by rule ({what}); '{command}' measures this machine"

    def slower(
        self,
        backend: str,
        file: BundleFile,
        fastest: tuple[str, BundleFile],
        fp32: tuple[str, BundleFile] | None,
    ) -> str | None:
        """A warning if FP32 is faster, with what to take instead; None if it is not, or nothing is known.

        fastest: the best that can be taken here. fp32: the fastest FP32 file that can; None where the bundle has none.
        """
        own, reference = self.ms(backend, file), self._fp32(backend, fp32)
        if own is None or reference is None:
            return None
        if own <= reference * (_SLOWER_FP32 if file.precision == "fp32" else _SLOWER):
            return None
        source = "measured here" if self.measured is not None else "measured on another machine"
        said = f"{file.name} by {backend} takes {own / reference:.1f} times as long as FP32 ({source})"
        name, better = fastest
        if (name, better) == (backend, file) or (self.ms(name, better) or own) >= own:
            return f"{said}; export the bundle with --fp32"
        return f"{said}; faster: --precision {better.precision} --backend {name}"

    @property
    def _rules(self) -> Mapping[str, Mapping[str, float]]:
        return SMALL if self.manifest.model.gmac < SMALL_GMAC else LARGE

    def _fp32(self, backend: str, fp32: tuple[str, BundleFile] | None) -> float | None:
        if fp32 is not None:
            return self.ms(*fp32)
        return None if self.measured is not None else self._rules.get(backend, {}).get("fp32")
