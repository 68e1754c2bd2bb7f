"""The same protocols without hardware, for the harness and the tests."""
