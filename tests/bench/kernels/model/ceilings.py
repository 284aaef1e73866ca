"""Counts of the attention's large kernels for sm_90, by the Triton of the interpreter that runs this; prints JSON.

`python ceilings.py 1 2` counts levels 1 and 2 (windows 28 and 14) of the full model, FP16, 256 images.
"""

from __future__ import annotations

import json
import sys

import torch
import triton

from edgefel.bench.kernels.model.attention import attention_backward, attention_forward
from edgefel.bench.kernels.model.compiled import count_spec, metrics
from edgefel.bench.kernels.problems import pyramid_levels

TARGET = 90
# most instructions of the inner loop for one score, by window
CEILINGS = {28: 10.5, 14: 11.0}
# of all large kernels of the backward pass together
BACKWARD = {28: 34.0, 14: 34.0}
# most microseconds that the bound on the launch may be
BOUNDS_US = {28: 130.0, 14: 27.0}

if __name__ == "__main__":
    rows = []
    for problem in pyramid_levels(256, torch.float16):
        if str(problem.level) in sys.argv[1:]:
            for launch in (*attention_forward(problem, TARGET), *attention_backward(problem, TARGET)):
                if launch.plan.unit == "score":
                    found = metrics(*count_spec(launch.spec, launch.plan, TARGET), TARGET)
                    named = {"window": problem.window, "mode": launch.mode, "triton": triton.__version__}
                    rows.append({**named, **found})
    print(json.dumps(rows))
