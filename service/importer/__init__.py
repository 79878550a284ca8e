"""An .onnx file becomes a draft: evidence from the graph, one dry run in a child process, conclusions."""
