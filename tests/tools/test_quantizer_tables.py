"""Tables of quantizers and formats: the best first, what is missing with its reason, refused engines."""

from __future__ import annotations

from bench_rows import row
from quantizer_tables import formats, quantizers


def judged(tool, sqnr, *, builds=True):
    speed = {"onnxruntime": {"value": 1.25, "stable": False}, "openvino": {"value": 2.0, "stable": True}}
    metrics = {
        "version": "1.0",
        "agreement": 0.985,
        "sqnr_db": sqnr,
        "kl_mean": 1e-3,
        "file_bytes": 1_500_000,
    }
    metrics |= {"calibration_images": 512, "images": 1000, "speed": speed}
    metrics |= {"worst_class": {"label": "fear", "change": -1.25}}
    metrics |= {"tensorrt": {"package": "tensorrt_rtx", "version": "1.7", "builds": builds}}
    return found(tool, metrics)


def found(tool, metrics):
    made = row("quantizers", {"model": "nano", "quantizer": tool, "settings": "s", "threads": 1}, metrics)
    return {
        **made.subject,
        **made.metrics,
        "row": made,
        "command": made.command,
        "results": "quantizers.jsonl",
    }


def lines(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_best_is_first_and_the_missing_last_with_its_reason():
    missing = found("NNCF", {"version": None, "reason": "not installed; run: pip install 'nncf'"})
    fp32 = found("FP32", {"version": None, "file_bytes": 2_000_000})
    text = quantizers([fp32, judged("a", 20.0, builds=False), missing, judged("b", 31.26)])
    body = lines(text)[2:]
    assert [line.split(" | ")[0] for line in body] == ["| b 1.0", "| a 1.0", "| NNCF"]
    assert "| 98.50% | 31.3 | 1.0e-03 | fear -1.2 | 1.50 | builds | 1.25 ~ | 2.00 |" in body[0]
    assert "| refused |" in body[1]
    assert "not installed; run: pip install 'nncf'" in body[2]
    assert "TensorRT is tensorrt_rtx 1.7" in text


def test_a_format_that_a_gpu_lacks_is_refused():
    engines = {
        "sm_86": {"bytes": None, "reason": "fp8 needs Ada"},
        "sm_89": {"bytes": 9_700_000, "reason": None},
    }
    one = {
        "file": "model.fp8.onnx",
        "layers": 27,
        "bytes": 780_000,
        "agreement": 0.98,
        "logits_sqnr_db": 24.0,
    }
    one |= {
        "kl_mean": 1e-3,
        "worst_class": "fear",
        "worst_recall_change": -1.0,
        "verdict": "pass",
        "engines": engines,
    }
    text = formats({"files": [one], "model": "nano", "images": 9, "tensorrt": "t 1", "made_by": "`c`"})
    assert (
        "| model.fp8.onnx | 27 | 0.78 | 98.00% | 24.0 | 1.0e-03 | fear -1.0 | pass | refused | 9.7 MB |"
        in text
    )


def test_a_runtime_that_does_not_run_the_file_fails_and_an_unstable_ratio_does_not():
    one = judged("a", 20.0)
    one["speed"] = {
        "onnxruntime": {"value": 0.5, "stable": False, "reason": "halves differ"},
        "openvino": {"failed": "crash"},
    }
    assert lines(quantizers([one]))[2].endswith("| 0.50 ~ | fails |")
