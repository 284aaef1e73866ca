"""The groups of operators that a profile is told by. Needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping

PRODUCTS, COPIES, ACTIVATIONS, LAYOUT = "products", "copies", "activations", "layout"
ATTENTION, NORMALIZATION, HEAD, OTHER = "attention", "normalization", "head", "other"
# in the order of the tables; what each is, for people
GROUPS: Mapping[str, str] = {
    PRODUCTS: "convolutions and products with weights",
    COPIES: "quantize, dequantize, cast, copy",
    ACTIVATIONS: "PReLU, GELU, sigmoid, ReLU",
    LAYOUT: "transpose, reshape, slice, concatenate, pad, reorder",
    ATTENTION: "products of activations with softmax",
    NORMALIZATION: "layer and batch norms",
    HEAD: "reliability head",
    OTHER: "sums, scales, pooling and the rest",
}
