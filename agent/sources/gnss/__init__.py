"""From a receiver's bytes to fixes."""
