"""The demo: a shift in Boston, end to end, on the process rig."""
