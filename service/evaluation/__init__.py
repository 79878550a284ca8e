"""Offline work on labelled rows: data sets, fitting, reports."""
