"""Which worker gets which job: a state machine and its rules; no sockets and no clocks."""
