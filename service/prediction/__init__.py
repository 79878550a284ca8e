"""The use case: rows and options in, an answer out, whatever the protocol."""
