"""mdt doctor: one page that tells whether a vehicle is fitted and works, line by line, and what to do."""
