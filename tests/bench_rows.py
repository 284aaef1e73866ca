"""Result rows as the benches write them, from drawn durations: a comparison, stages, throughput, training, roofline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.bench import statistics
from edgefel.bench.results import Row
from edgefel.bench.timer import Timing

DEVICE = "Intel(R) Xeon(R) Processor @ 2.10GHz, 2 cores"
ORIN = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, 6 cores, 25W"
LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
# model, precision, backend: ms, accuracy, MB, peak MB
CONTENDERS = {
    ("poster-v2", "fp32", "pytorch"): (145.0, 0.918, 284.9, 842),
    ("poster-v2", "fp32", "torch.compile"): (121.0, 0.918, 284.9, 1104),
    ("poster-v2", "fp32", "onnxruntime"): (100.0, 0.918, 287.1, 655),
    ("poster-v2", "int8", "onnxruntime"): (83.0, 0.909, 73.4, 421),
    ("arbex", "fp32", "pytorch"): (121.0, 0.937, 176.2, 640),
    ("arbex", "fp32", "onnxruntime"): (82.0, 0.937, 177.0, 480),
    ("arbex", "fp16", "onnxruntime"): (96.0, 0.937, 88.9, 511),
    ("arbex", "fp32", "openvino"): (88.0, 0.937, 177.0, 702),
    ("arbex", "int8", "onnxruntime"): (61.0, 0.931, 45.8, 302),
    ("arbex", "int8", "openvino"): (29.5, 0.930, 45.8, 388),
    ("arbex-nano", "fp32", "pytorch"): (9.8, 0.861, 5.1, 301),
    ("arbex-nano", "fp32", "onnxruntime"): (4.6, 0.861, 5.2, 118),
    ("arbex-nano", "int8", "onnxruntime"): (3.9, 0.852, 1.6, 109),
    ("arbex-nano", "int8", "openvino"): (2.4, 0.853, 1.6, 240),
}


def environment(device: str = DEVICE, **other: Any) -> dict[str, Any]:
    """What `environment.describe` says, shortened."""
    return {
        "device": device,
        "cpu": "Intel(R) Xeon(R) Processor @ 2.10GHz",
        "architecture": "x86_64",
        "cores": 2,
        "gpu": None,
        "clocks": {"cpu_governor": None, "gpu_mhz": None},
        "throttled": [],
        "os": "Linux-6.1-x86_64-with-glibc2.36",
        "python": "3.11.9",
        "versions": {"edgefel": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.31.1", "openvino": "2026.4.1"},
        "commit": "2dd969c0ffee",
        **other,
    }


def durations(ms: float, runs: int = 120, scatter: float = 0.01, seed: int = 0) -> tuple[float, ...]:
    """Milliseconds with a tail to the slow side, as real ones have; their median is near `ms`."""
    generator = np.random.default_rng(seed)
    tail = np.where(generator.random(runs) < 0.06, generator.gamma(2, 6 * scatter, runs), 0)
    return tuple((ms * (1 + scatter * generator.standard_normal(runs) + tail)).tolist())


def timing(ms: float, **how: Any) -> dict[str, Any]:
    """`Timing.to_dict` of them."""
    return dict(_timing(ms, **how))


@lru_cache
def _timing(ms: float, **how: Any) -> dict[str, Any]:
    return Timing.from_nanoseconds([round(1e6 * value) for value in durations(ms, **how)]).to_dict()


def row(
    kind: str = "compare",
    subject: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    *,
    device: str = DEVICE,
    time: str = "2026-11-22T14:00:00+00:00",
    notes: tuple[str, ...] = (),
    **surroundings: Any,
) -> Row:
    """One row. By default a comparison's of arbex INT8 in OpenVINO, 29.5 ms."""
    known = {"model": "arbex", "precision": "int8", "backend": "openvino", "batch": 1, "threads": 2}
    subject = known if subject is None else subject
    if metrics is None:
        metrics = compared(29.5)
    where = environment(device, **surroundings)
    return Row(kind, subject, metrics, where, f"edgefel bench {kind} -o results.jsonl", time, notes)


def compared(ms: float, **more: Any) -> dict[str, Any]:
    """Metrics of a comparison, against something of 145 ms."""
    ratio = dict(_ratio(ms))
    ratio["to"] = "poster-v2 fp32 pytorch"
    return {"latency_ms": timing(ms, seed=3), "ratio": ratio, "images_per_s": 1000 / ms, **more}


@lru_cache
def _ratio(ms: float) -> dict[str, Any]:
    return statistics.ratio(durations(145.0, seed=9), durations(ms, seed=3)).to_dict()


def recall(accuracy: float, seed: int) -> dict[str, float]:
    """By class, around the accuracy; fear is the worst, as usual."""
    usual = np.array((0.03, 0.04, 0.01, -0.01, 0, -0.02, -0.09))
    spread = usual + np.random.default_rng(seed).normal(0, 0.02, len(LABELS))
    return {
        name: round(float(min(1, accuracy + value)), 4) for name, value in zip(LABELS, spread, strict=True)
    }


def example_rows(device: str = DEVICE, speed: float = 1.0) -> list[Row]:
    """One of everything that a report shows, on one device; speed: how many times as fast it is as two cores."""
    rows = []
    for number, ((model, precision, backend), (ms, accuracy, size, memory)) in enumerate(CONTENDERS.items()):
        subject = {"model": model, "precision": precision, "backend": backend, "batch": 1, "threads": 2}
        metrics = compared(
            ms / speed,
            file_bytes=round(1e6 * size),
            peak_memory_mb=memory,
            images=700,
            accuracy=accuracy,
            macro_f1=accuracy - 0.004,
            recall=recall(accuracy, number),
        )
        metrics["latency_ms"] = timing(
            ms / speed, seed=number, scatter=0.25 if number == 6 else 0.004 + 0.002 * (number % 4)
        )
        rows.append(row(subject=subject, metrics=metrics, device=device))
    rows += _stages(device, speed)
    for backend, top in (("onnxruntime", 17.0), ("openvino", 38.0)):
        for callers in (1, 2, 4, 8, 16):
            subject = {
                "model": "arbex",
                "precision": "int8",
                "backend": backend,
                "threads": 2,
                "concurrency": callers,
            }
            reached = speed * top * (1 - 0.45**callers)
            metrics = {
                "images_per_s": reached,
                "latency_ms": timing(1000 * callers / reached, seed=callers),
                "knee": callers == 4,
            }
            rows.append(row("throughput", subject, metrics, device=device))
    for kernels, images in (("off", 11.2), ("on", 12.9)):
        subject = {"model": "arbex", "batch": 16, "kernels": kernels}
        metrics = {
            "images_per_s": images * speed,
            "latency_ms": timing(16000 / images / speed),
            "peak_memory_mb": 3811,
        }
        rows.append(row("train", subject, metrics, device=device))
    for precision, floor in (("fp32", 61.9), ("int8", 14.3)):
        subject = {"model": "arbex", "precision": precision, "device": "cpu", "batch": 1}
        metrics = {"floor_ms": floor / speed, "parameters": 43_800_000, "macs": 8.43e9}
        if precision == "int8":
            metrics["measured"] = {"openvino": {"p50_ms": 29.5 / speed, "share_of_bound": 0.485}}
        rows.append(row("roofline", subject, metrics, device=device))
    subject = {"model": "arbex", "stage": "decode", "workers": 1}
    metrics = {"images_per_s": 2100 * speed, "latency_ms": timing(30 / speed)}
    rows.append(row("data-path", subject, metrics, device=device))
    subject = {"model": "arbex-nano", "experiment": "head", "variant": "anchors", "seed": 0, "recipe": "nano"}
    metrics = {"diverged": False, "accuracy": 0.66, "macro_f1": 0.65, "primary": {"accuracy": 0.65}}
    rows.append(row("ablation", subject, metrics, device=device))
    kernel = {
        "op": "window_cross_attention",
        "problem": "level 1",
        "batch": 64,
        "dtype": "fp16",
        "mode": "forward",
    }
    metrics = {"ms_p50": 0.1 / speed, "ms_p90": 0.11 / speed, "error": 1e-3}
    rows.append(row("kernels", {**kernel, "implementation": "edgefel"}, metrics, device=device))
    subject = {**kernel, "kernel": "forward_kernel", "implementation": "edgefel", "target": "sm_90"}
    metrics = {"bound_us": 279.0, "bound_by": "issue", "instructions_per_unit": 23.4}
    rows.append(row("kernel-model", subject, metrics, device=device))
    subject = {"model": "arbex", "quantizer": "NNCF", "settings": "default", "threads": 1}
    rows.append(row("quantizers", subject, {"reason": "not installed"}, device=device))
    subject = {"model": "arbex", "precision": "int8", "backend": "onnxruntime", "batch": 1}
    groups = {"products": {"nodes": 125, "ms": 21.0, "share": 0.8, "gops": 640.0}}
    groups["copies"] = {"nodes": 275, "ms": 3.5, "share": 0.2}
    metrics = {"nodes": 400, "groups": groups, "nodes_ms": 24.5, "profiled_ms": 26.0}
    timed = {**subject, "threads": 1}
    rows.append(row("profile", timed, {**metrics, "latency_ms": timing(25.0 / speed)}, device=device))
    counts = {name: {"nodes": group["nodes"]} for name, group in groups.items()}
    rows.append(row("profile", {**subject, "counted": True}, {"nodes": 400, "groups": counts}, device=device))
    return rows


def _stages(device: str, speed: float) -> list[Row]:
    rows = []
    for precision, ms in (("fp32", 82.0), ("int8", 61.0)):
        stages = {
            "decode": 3.1,
            "find faces": 11.4,
            "crop and align": 1.2,
            "normalise": 0.9,
            "model": ms,
            "labels": 0.1,
        }
        metrics = {
            "latency_ms": timing(ms / speed),
            "end_to_end_ms": timing(sum(stages.values()) / speed),
            "stages_ms": {name: timing(value / speed) for name, value in stages.items()},
        }
        subject = {
            "model": "arbex",
            "precision": precision,
            "backend": "onnxruntime",
            "batch": 1,
            "threads": 2,
        }
        rows.append(row("latency", subject, metrics, device=device))
    return rows


def write_rows(path: Path, rows: list[Row]) -> Path:
    """As `append_results` writes them, into a new file."""
    path.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in rows))
    return path
