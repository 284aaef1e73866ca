"""One reader for each published layout of a facial-expression data set."""
