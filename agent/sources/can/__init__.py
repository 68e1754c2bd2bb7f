"""From frames of a vehicle bus to signals."""
