"""Everything behind the head's matrix products: softmaxes, confidences and weighted means."""
