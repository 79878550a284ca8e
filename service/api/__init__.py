"""HTTP: the only package that knows it."""
