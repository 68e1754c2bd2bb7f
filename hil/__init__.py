"""The hardware-in-the-loop harness: rigs, recordings, scenarios, faults, reports."""
