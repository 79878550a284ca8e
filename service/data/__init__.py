"""Data sets in: files become checked rows and labels."""
