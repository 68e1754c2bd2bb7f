"""The contract: values, bytes, topics and requests, as units and dispatch exchange them."""
