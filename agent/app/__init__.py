"""The composition root, and the three paths from event to record: fixes, vehicle signals, presses."""
