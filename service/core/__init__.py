"""The arithmetic between a model's raw output and a decision: pure NumPy, arrays in, arrays out."""
