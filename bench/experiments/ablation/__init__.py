"""The papers' tables as grids of training runs: what each changes, what it claims, and whether it holds here."""
