"""A real Linux kernel, booted as an ordinary process (User-Mode Linux), whose power can be cut."""
