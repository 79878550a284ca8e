"""A draft and labelled rows become a version."""
