"""Units, their restart policy, the watchdog and the staged stop."""
