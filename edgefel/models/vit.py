"""The transformer of all encoders: pre-norm blocks (Dosovitskiy et al., arXiv 2010.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefel.kernels import backend
from edgefel.kernels.token_pooling.reference import pool_tokens

POSITION_STD = 1.0
QUERY_KEY_GAIN = 2.0


class Mlp(nn.Module):
    """Linear, GELU, Linear: [..., D] -> [..., D]."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(width * ratio))
        self.act = nn.GELU()
        self.fc2 = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens: [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the attended tokens, and the products q k / sqrt(d) before the softmax, [B, H, T, T]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        products = (q * self.scale) @ k.transpose(-2, -1)
        out: Tensor = self.project((products.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
        return out, products


class ViTBlock(nn.Module):
    """[B, T, D] -> [B, T, D], or [B, 1 + keep, D]: the class token and the `keep` best of the others.

    Attention is over all tokens; dropped ones leave before the MLP (attentive token pooling, APViT,
    arXiv 2212.05463 section 3.3). `keep` None keeps all.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, qkv_bias: bool = True, keep: int | None = None
    ) -> None:
        super().__init__()
        self.keep = keep
        self.implementation: backend.Choice = "auto"
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        attended, products = self.attention(self.norm1(x))
        x = x + attended
        if self.keep is not None:
            pool = pool_tokens
            # an exported graph has TopK, which every runtime knows
            if backend.uses_triton(self.implementation, x) and not torch.compiler.is_exporting():
                from edgefel.kernels.token_pooling.op import pool_tokens as pool
            x = pool(x, products, self.keep)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


def initialize_from_scratch(encoder: nn.Module) -> None:
    """Initializes an encoder that has `blocks`, `cls_token` and `pos_embed` for training from scratch.

    With the usual small values the class token attends to all tokens alike and averages the whole face, so that
    training from scratch stays at chance for hundreds of steps. Positions as large as the features and sharp initial
    attention let it attend to places from the start.
    """
    if next(encoder.parameters()).is_meta:
        return  # it has no values; and torch would load its compiler to draw some, which takes seconds
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for name, parameter in encoder.named_parameters(recurse=False):
        if name == "cls_token" or name.endswith("pos_embed"):
            nn.init.normal_(parameter, std=POSITION_STD)
    for module in encoder.modules():
        if isinstance(module, SelfAttention):
            query_key = module.qkv.weight.detach()[: 2 * module.qkv.in_features]
            nn.init.normal_(query_key, std=QUERY_KEY_GAIN * query_key.shape[1] ** -0.5)
