"""The page of `edgefel export --web`: a folder of files that label faces inside a browser."""
