"""A report -> tables on a terminal, and one HTML page."""
