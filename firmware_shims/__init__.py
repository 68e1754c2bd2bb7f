"""Drivers for real hardware, each behind a protocol of agent.hal."""
