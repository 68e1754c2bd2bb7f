"""The simulated rig: the agent's own app in one process, on a manual clock."""
