"""A report as tables for a terminal and as one HTML page."""
