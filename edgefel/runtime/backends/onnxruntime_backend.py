"""ONNX files by ONNX Runtime: on the CPU, or on an NVIDIA GPU by its CUDA or TensorRT provider."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.runtime import engines
from edgefel.runtime.backends.base import Array, ModelFile, OnnxBackend
from edgefel.runtime.engines import described
from edgefel.runtime.manifest import BundleFile
from edgefel.runtime.requirements import needed_for, too_old
from edgefel.runtime.telemetry.sysfs import lacks_vnni
from edgefel.text import one_line

Provider = tuple[str, dict[str, Any]]
_CPU: Provider = ("CPUExecutionProvider", {})
# memory grows by what is needed, since a board shares it with the CPU; TF32 would shorten FP32's mantissa to 10 bits
CUDA: Provider = (
    "CUDAExecutionProvider",
    {
        "device_id": 0,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": 0,
    },
)
# an ONNX file of one Identity node, x [1] -> y [1], float32, opset 13
_IDENTITY = bytes.fromhex(
    "080712003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112"
    "040a02080142040a00100d"
)


def session_options(threads: int | None = None) -> Any:
    """`onnxruntime.SessionOptions` of every session here. threads: of one call, None for all cores."""
    options = importlib.import_module("onnxruntime").SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    if lacks_vnni() is not False:
        # There, kernels for uint8 times int8 add two products in 16 bits, and a sum that does not fit becomes the
        # largest one that does. Those for uint8 times uint8 are slower and right.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def runner_options(threads: int) -> Any:
    """`session_options` of a session that is called now and then."""
    options = session_options(threads)
    # its threads wait in a loop for their next work; between calls they would take the cores of detection and
    # capture, and power
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class OnnxRuntimeBackend(OnnxBackend):
    """ONNX Runtime with all graph optimisations, on the CPU."""

    package: ClassVar[str] = "ONNX Runtime"
    needs: ClassVar[str] = "CPUExecutionProvider"

    def __init__(self, session: Any, path: Path) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shape = tuple(side if isinstance(side, int) else None for side in inputs[0].shape) if inputs else ()
        names = tuple(value.name for value in inputs), tuple(value.name for value in outputs)
        super().__init__(path, *names, shape)
        self._session = session

    @classmethod
    def unavailable_reason(cls, file: BundleFile) -> str | None:
        """ONNX Runtime does not load, is older than the file needs, or was built without the provider."""
        try:
            onnxruntime = importlib.import_module("onnxruntime")
            version, providers = str(onnxruntime.__version__), onnxruntime.get_available_providers()
        except ModuleNotFoundError:
            return "ONNX Runtime is not installed; run: pip install onnxruntime"
        except Exception as error:  # also a folder that was left behind where onnxruntime-gpu was uninstalled
            return f"ONNX Runtime does not load ({described(error)}); run: pip install --force-reinstall onnxruntime"
        if (reason := too_old(file, version)) is not None:
            return reason
        if cls.needs not in providers:
            return (
                f"the installed ONNX Runtime has no {cls.needs}; install a build with it, such as onnxruntime-gpu in "
                "the place of onnxruntime"
            )
        if cls.needs == OnnxRuntimeBackend.needs or engines.find_gpu() is not None:
            return None
        why = engines.gpu_problem()
        return f"{cls.needs} needs an NVIDIA GPU, and none is found here{f' ({why})' if why else ''}"

    @classmethod
    def open(cls, model: ModelFile, *, threads: int) -> OnnxRuntimeBackend:
        """Loads the file with that many CPU threads per call.

        Raises EdgefelError if it cannot be loaded, or if ONNX Runtime leaves the provider out, which it does
        without an error where the provider's libraries or the GPU are missing.
        """
        onnxruntime = importlib.import_module("onnxruntime")
        try:
            session = onnxruntime.InferenceSession(
                str(model.path), runner_options(threads), providers=cls.providers()
            )
        except EdgefelError:
            raise
        except Exception as error:  # its exception classes have no public base
            newer = needed_for(str(error))
            mend = f"run: pip install '{newer}'" if newer else "export it again"
            raise EdgefelError(
                f"{model.path}: ONNX Runtime cannot load it (version {onnxruntime.__version__}: {one_line(error)}); "
                f"{mend}"
            ) from error
        if cls.needs not in session.get_providers():
            raise EdgefelError(
                f"{model.path}: ONNX Runtime fell back to {', '.join(session.get_providers())}, because its "
                f"{cls.needs} does not start here; check that its CUDA, cuDNN and TensorRT libraries are those "
                "it was built for, and that there is a GPU, or choose --backend onnxruntime"
            )
        return cls(session, model.path)

    @classmethod
    def providers(cls) -> list[Provider]:
        """Providers in the order of preference, with their options."""
        return [_CPU]

    def _infer(self, batch: Array) -> dict[str, Array]:
        values = self._session.run(self.output_names, {self.input_names[0]: batch})
        return dict(zip(self.output_names, values, strict=True))

    def close(self) -> None:
        """Frees the session."""
        self._session = None


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """ONNX Runtime's CUDA provider; what it has no kernel for runs on the CPU."""

    needs: ClassVar[str] = CUDA[0]

    @classmethod
    def providers(cls) -> list[Provider]:
        """CUDA, then the CPU."""
        return [CUDA, _CPU]


class OnnxRuntimeTensorRTBackend(OnnxRuntimeBackend):
    """ONNX Runtime's TensorRT provider. It builds an engine for each new range of batch sizes, which takes minutes,
    and keeps it in the cache folder."""

    needs: ClassVar[str] = "TensorrtExecutionProvider"

    @classmethod
    def providers(cls) -> list[Provider]:
        """TensorRT, then CUDA, then the CPU. Raises EdgefelError if the cache folder cannot be made."""
        folder = str(cache_folder("onnxruntime-tensorrt"))
        options = {
            "device_id": 0,
            # precision lives in the ONNX file
            "trt_fp16_enable": False,
            "trt_int8_enable": False,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": folder,
        }
        return [(cls.needs, options), CUDA, _CPU]


def cuda_problem(onnxruntime: Any) -> str | None:
    """Why the CUDA provider of this ONNX Runtime does not start here, in one line; None if it does.

    It runs a model of one node: without its libraries or a GPU, ONNX Runtime takes the CPU and raises nothing.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(_IDENTITY, options, providers=[CUDA, _CPU])
        found: list[str] = session.get_providers()
        if CUDA[0] not in found:
            return f"ONNX Runtime falls back to {', '.join(found)}"
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:
        return described(error)
    return None
