"""The checks, one file each; a newcomer adds a file here and a row to `agent.cli.doctor.table`."""
