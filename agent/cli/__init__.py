"""The mdt command."""
