"""How good probabilities, flags and decisions are, measured on labelled rows."""
