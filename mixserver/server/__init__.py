"""The server: one evaluation from request to reply, and the run around it."""
