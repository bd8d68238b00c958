"""The command line: parse, validate, call; nothing else."""
