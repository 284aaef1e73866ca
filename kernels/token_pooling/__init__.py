"""Attentive patch pooling and attentive token pooling: score tokens, keep the best, in their order."""
