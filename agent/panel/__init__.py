"""The crew's touch page: a process of its own that talks to the daemon over its socket."""
