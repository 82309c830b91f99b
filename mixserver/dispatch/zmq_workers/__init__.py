"""Workers that connect over ZeroMQ: the listener, its connections and its lock."""
