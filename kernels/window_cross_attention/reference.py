"""Window cross-attention in plain PyTorch: what the kernels are tested against.

Source: POSTER++ (arXiv 2301.12149, section 3.2) with Swin's relative position bias (arXiv 2103.14030, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor


def relative_position_bias(bias_table: Tensor, window: int) -> Tensor:
    """The bias of every pair of positions in a window of side W: [(2W-1)^2, H] -> [H, M, M] with M = W^2.

    Row (dr + W-1)(2W-1) + (dc + W-1) of the table belongs to the offset (dr, dc), query position minus key position.
    """
    axis = torch.arange(window, device=bias_table.device)
    # row and column fold into one number per position, so an offset is one subtraction
    position = (axis[:, None] * (2 * window - 1) + axis[None, :]).flatten()  # [M]
    centre = (window - 1) * 2 * window
    index = position[:, None] - position[None, :] + centre  # [M, M]
    return bias_table[index.flatten()].reshape(*index.shape, -1).permute(2, 0, 1)


def window_cross_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float
) -> Tensor:
    """softmax(scale * q k^T + bias) v within each window of side W, with M = W^2 tokens.

    q: [B, H, M, D], shared by the nW windows of an image, or [B*nW, H, M, D]. k, v: [B*nW, H, M, D]; the windows of
    one image follow each other. bias_table: [(2W-1)^2, H]. scale: factor on q, usually D^-0.5.

    Returns [B*nW, M, H*D], the layout that the output projection takes. Raises ValueError naming the argument whose
    shape does not fit.
    """
    check_window_attention_shapes(q, k, v, bias_table, window)
    total, heads, m, width = k.shape
    if q.shape[0] != total:
        q = q.repeat_interleave(total // q.shape[0], dim=0)
    # q is scaled before the product: TensorRT fuses attention best in this form
    scores = (q * scale) @ k.transpose(-2, -1)  # [B*nW, H, M, M]
    scores = scores + relative_position_bias(bias_table, window).to(scores.dtype)
    out = scores.softmax(dim=-1) @ v  # [B*nW, H, M, D]
    return out.transpose(1, 2).reshape(total, m, heads * width)


def check_window_attention_shapes(q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int) -> None:
    """Raises ValueError naming the first argument whose shape does not fit."""
    if k.ndim != 4:
        raise ValueError(f"k: expected [B*nW, H, M, D], got shape {tuple(k.shape)}")
    total, heads, m, width = k.shape
    if m != window * window:
        raise ValueError(f"k: expected M = {window * window} tokens for window {window}, got {m}")
    if v.shape != k.shape:
        raise ValueError(f"v: expected the shape of k {tuple(k.shape)}, got {tuple(v.shape)}")
    if q.ndim != 4 or tuple(q.shape[1:]) != (heads, m, width):
        raise ValueError(f"q: expected [B, {heads}, {m}, {width}], got shape {tuple(q.shape)}")
    # an empty batch has no windows to share a query map
    if q.shape[0] != total and (q.shape[0] == 0 or total % q.shape[0]):
        raise ValueError(f"q: expected a batch of {total}, or a divisor of {total}, got {q.shape[0]}")
    rows = (2 * window - 1) ** 2
    if tuple(bias_table.shape) != (rows, heads):
        raise ValueError(f"bias_table: expected [{rows}, {heads}], got shape {tuple(bias_table.shape)}")
