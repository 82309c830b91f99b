"""A running server's status: the snapshot, where it can be asked for, and Prometheus's view."""
