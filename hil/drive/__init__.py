"""Simulated drives: an ambulance shift as items on one timeline."""
