"""Publisher, lanes and commands: the way to dispatch."""
