"""Models in memory; the only package that imports onnxruntime."""
