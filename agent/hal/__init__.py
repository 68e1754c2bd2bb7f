"""What the agent needs of hardware: protocols and the values that cross them."""
