"""What control units say of their own faults."""
