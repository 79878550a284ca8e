"""Batch scoring of data sets larger than memory."""
