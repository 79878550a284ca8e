"""`/v1`: instances in, predictions out, verbs after a colon."""
