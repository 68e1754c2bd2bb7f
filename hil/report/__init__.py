"""Reports: one self-contained page a run, to be read by a person."""
