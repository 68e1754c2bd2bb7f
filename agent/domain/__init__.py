"""Values and rules of the field, pure: no I/O, no threads, no clock. Time is handed in, never asked for."""
