"""`edgefel label`: the faces of large sets of images, as Parquet files."""
