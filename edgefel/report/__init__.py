"""Self-contained pages from templates, their tables, and matplotlib figures inside them."""
