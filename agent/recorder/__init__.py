"""The black box: everything the drivers read, in files."""
