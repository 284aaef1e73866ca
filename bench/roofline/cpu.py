"""Measured ceilings of this processor: products and convolutions, and a copy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from edgefel.bench.networks import onnxruntime_session
from edgefel.bench.results import check_counts
from edgefel.bench.roofline.devices import Ceiling, DeviceSpec
from edgefel.bench.timer import TimingPlan, measure, time_callable
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.quiet import import_quietly
from edgefel.runtime.doctor.machine import installed_version
from edgefel.runtime.telemetry.sysfs import cpu_name
from edgefel.text import counted

# large enough to be bound by arithmetic, small enough for the last cache: 3x3 of 256 channels on 28x28, and a product
CHANNELS, SIDE, KERNEL = 256, 28, 3
PRODUCT = 768
# beyond every last-level cache
COPY_BYTES = 256 << 20
PLAN = TimingPlan(warmup=3, settle_seconds=1.0, min_runs=15, seconds=1.5)


def measure_cpu(threads: int, plan: TimingPlan = PLAN, copy_bytes: int = COPY_BYTES) -> DeviceSpec:
    """Ceilings of `threads` threads of this processor.

    FP32 and INT8: the best of a convolution and a matrix product in ONNX Runtime and, if installed, OpenVINO;
    the fastest run counts. FP16 gets the rate of FP32, which its files are computed in after a cast.
    Elementwise work gets the same rates, an upper bound. Bandwidth: a copy of `copy_bytes`, counted as read
    and written. Raises EdgefelError for fewer than one thread, or without ONNX Runtime.
    """
    check_counts(threads=threads)
    if importlib.util.find_spec("onnxruntime") is None:
        raise EdgefelError("measuring the ceilings of this CPU needs onnxruntime: pip install onnxruntime")
    fp32, int8 = (_best(_calls(kind, threads), plan, threads) for kind in ("fp32", "int8"))
    cast = Ceiling(fp32.per_second, "measured", fp32.source, f"{fp32.how}; FP16 is computed in FP32")
    return DeviceSpec(
        name="cpu",
        title=f"{cpu_name()}, {counted(threads, 'thread')}",
        mode="as it is",
        matrix={"fp32": fp32, "fp16": cast, "int8": int8},
        vector={"fp32": fp32, "fp16": cast},
        bandwidth=_copy(threads, plan, copy_bytes),
    )


def _best(calls: dict[str, tuple[Callable[[], Any], int]], plan: TimingPlan, threads: int) -> Ceiling:
    timings = measure({name: call for name, (call, _) in calls.items()}, plan)
    rates = {name: calls[name][1] / (timing.min * 1e-3) for name, timing in timings.items()}
    name = max(rates, key=lambda key: rates[key])
    return Ceiling(
        rates[name],
        "measured",
        "this machine",
        f"{name}, {counted(threads, 'thread')}, best of {timings[name].runs}",
    )


def _calls(kind: str, threads: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Name -> a call and its operations, for every problem in every available backend."""
    calls: dict[str, tuple[Callable[[], Any], int]] = {}
    for problem, (data, shape, operations) in _problems(kind).items():
        values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        run: Callable[[], Any] = partial(onnxruntime_session(data, threads).run, None, {"x": values})
        calls[f"{problem} in ONNX Runtime {installed_version('onnxruntime')}"] = run, operations
        if importlib.util.find_spec("openvino") is not None:
            run = _openvino(data, values, threads)
            calls[f"{problem} in OpenVINO {installed_version('openvino')}"] = run, operations
    return calls


def _problems(kind: str) -> dict[str, tuple[bytes, tuple[int, ...], int]]:
    """Name -> serialized graph, shape of its input, operations of it."""
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((CHANNELS, CHANNELS, KERNEL, KERNEL), dtype=np.float32) / 48
    square = rng.standard_normal((PRODUCT, PRODUCT), dtype=np.float32) / 28
    return {
        f"{kind} {KERNEL}x{KERNEL} convolution": (
            _graph(f"Conv <pads = {[KERNEL // 2] * 4}>", kernel, (1, CHANNELS, SIDE, SIDE), kind == "int8"),
            (1, CHANNELS, SIDE, SIDE),
            2 * kernel.size * SIDE * SIDE,
        ),
        f"{kind} matrix product": (
            _graph("MatMul", square, (PRODUCT, PRODUCT), kind == "int8"),
            (PRODUCT, PRODUCT),
            2 * PRODUCT**3,
        ),
    }


def _graph(op: str, weight: Any, shape: tuple[int, ...], quantized: bool) -> bytes:
    """One node, such as "MatMul", if quantized between Q/DQ with unsigned activations, which x86 is fast with."""
    import onnx

    constants, nodes = {"w": weight}, f"y = {op} (x, w)"
    if quantized:
        scale = np.float32(np.abs(weight).max() / 127)
        constants = {"w8": np.rint(weight / scale).astype(np.int8), "ws": scale, "wz": np.int8(0)}
        constants |= {"xs": np.float32(8 / 255), "xz": np.uint8(128)}
        nodes = f"""
            xq = QuantizeLinear (x, xs, xz)
            xd = DequantizeLinear (xq, xs, xz)
            wd = DequantizeLinear (w8, ws, wz)
            yf = {op} (xd, wd)
            yq = QuantizeLinear (yf, xs, xz)
            y = DequantizeLinear (yq, xs, xz)
        """
    sizes = ",".join(map(str, shape))
    graph = f"ceiling (float[{sizes}] x) => (float[{sizes}] y) {{ {nodes} }}"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> {graph}')
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    data: bytes = model.SerializeToString()
    return data


def _openvino(data: bytes, values: Any, threads: int) -> Callable[[], Any]:
    core = import_quietly("openvino").Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(data, b""), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer({0: values}, share_inputs=True, share_outputs=True)


def _copy(threads: int, plan: TimingPlan, size: int) -> Ceiling:
    # zeros that were never written share one page; written once, every page is its own
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    target += 1
    parts = np.array_split(target, threads), np.array_split(source, threads)
    with ThreadPoolExecutor(threads) as pool:
        timing = time_callable(lambda: list(pool.map(np.copyto, *parts)), plan)
    how = f"copy of {size >> 20} MiB, {counted(threads, 'thread')}, best of {timing.runs}"
    return Ceiling(2 * size / (timing.min * 1e-3), "measured", "this machine", how)
