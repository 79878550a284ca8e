"""From a graph and what its user says to what it means: evidence, one dry run in a child, conclusions."""
