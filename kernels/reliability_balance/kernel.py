"""Reliability balancing: everything behind the head's matrix products in one launch, for inference.

    l = softmax(logits),  t_g = anchor softmax of e,  t_a = softmax(attentive logits),  c(p) = 1 - H(p) / log C
    t = mean of t_g and t_a, weighted by c of each;   L = mean of l and t, weighted by c of each

Sources: ARBEx (arXiv 2305.01486) sections 3.3-3.4. Where both weights are 0 the mean is plain.
Padded classes have probability 0 in every distribution.
"""

import triton
import triton.language as tl

from edgefel.kernels.anchor_softmax.kernel import distances, soft_weights


@triton.jit
def class_softmax(logits_ptr, label, inside):
    """softmax of one row of logits, FP32; 0 outside."""
    logits = tl.load(logits_ptr + label, mask=inside, other=-float("inf")).to(tl.float32)
    weight = tl.exp(logits - tl.max(logits, 0))
    return weight / tl.sum(weight, 0)


@triton.jit
def class_confidence(p, C: tl.constexpr):
    """1 - H(p) / log C, in 0..1; NaN stays NaN."""
    # p log p is 0 at p = 0; the floor keeps the logarithm finite there
    entropy = tl.sum(p * tl.log(tl.where(p < 1e-30, 1e-30, p)), 0)
    c = 1.0 + entropy / tl.log(tl.full((), C, tl.float32))
    c = tl.where(c < 0.0, 0.0, c)
    return tl.where(c > 1.0, 1.0, c)


@triton.jit
def confident_mean(p, q, C: tl.constexpr):
    """The mean of two distributions, each weighted by its confidence."""
    weight_p, weight_q = class_confidence(p, C), class_confidence(q, C)
    total = weight_p + weight_q
    empty = total <= 0.0
    share = tl.where(empty, 0.5, weight_q / tl.where(empty, 1.0, total))
    return p * (1.0 - share) + q * share


@triton.jit
def forward_kernel(
    logits_ptr, e_ptr, anchors_ptr, attentive_ptr, probabilities_ptr, confidence_ptr, primary_ptr,
    inverse_delta,
    C: tl.constexpr, K: tl.constexpr, E: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr, ATTENTIVE: tl.constexpr,
):  # fmt: skip
    """One program: one row of the batch. All arrays contiguous; K = 0 or ATTENTIVE = False leave a branch out."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.arange(0, BLOCK_C)
    inside = label < C
    primary = class_softmax(logits_ptr + row * C, label, inside)
    result = primary
    if K > 0:
        distance = distances(e_ptr + row * E, anchors_ptr, C, K, E, BLOCK_C, BLOCK_K, BLOCK_E)
        _, correction = soft_weights(distance, inverse_delta, BLOCK_C, BLOCK_K)
        if ATTENTIVE:
            attended = class_softmax(attentive_ptr + row * C, label, inside)
            correction = confident_mean(correction, attended, C)
        result = confident_mean(primary, correction, C)
    elif ATTENTIVE:
        attended = class_softmax(attentive_ptr + row * C, label, inside)
        result = confident_mean(primary, attended, C)
    tl.store(primary_ptr + row * C + label, primary, mask=inside)
    tl.store(probabilities_ptr + row * C + label, result, mask=inside)
    tl.store(confidence_ptr + row, class_confidence(result, C))
