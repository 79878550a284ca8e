"""Many machines by Ray: the only package that imports it, and only when it is used."""
