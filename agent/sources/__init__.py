"""Devices' data to domain events."""
