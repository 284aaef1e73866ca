"""Quantization-aware training: fake quantization where the exported file has Q/DQ nodes."""
