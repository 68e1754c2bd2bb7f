"""Publisher, connection, senders and commands: the way to dispatch."""
