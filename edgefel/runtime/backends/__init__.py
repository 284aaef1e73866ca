"""What runs a model file: one module per backend, and the table of them."""
