"""Answers as the bodies of responses."""
