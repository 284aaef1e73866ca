"""Counts of the forward kernel for sm_90, by the Triton of the interpreter that runs this; prints JSON.

`python ceilings.py 1 2` counts levels 1 and 2 (windows 28 and 14) of the full model, FP16, 256 images.
"""

from __future__ import annotations

import json
import sys

import torch
import triton

from edgefel.bench.kernels.model.attention import attention_forward
from edgefel.bench.kernels.model.compiled import count_spec, metrics
from edgefel.bench.kernels.problems import pyramid_levels

TARGET = 90
# most instructions of the inner loop for one score, by window
CEILINGS = {28: 10.5, 14: 11.0}
# most microseconds that the bound on the launch may be
BOUNDS_US = {28: 130.0, 14: 27.0}

if __name__ == "__main__":
    rows = []
    for problem in pyramid_levels(256, torch.float16):
        if str(problem.level) in sys.argv[1:]:
            launch = attention_forward(problem, TARGET)[-1]
            found = metrics(*count_spec(launch.spec, launch.plan, TARGET), TARGET)
            rows.append({"window": problem.window, "triton": triton.__version__, **found})
    print(json.dumps(rows))
