"""Reading graphs, without running them; the only package that imports onnx."""
