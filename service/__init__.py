"""Temperance: decisions people can answer for, from any ONNX classifier."""

import os

# ONNX Runtime reads this when it is imported; a call after the import comes too late (its files are written by then).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
