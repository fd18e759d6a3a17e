"""The run folder: its name, its JSON files, and whether it may be replaced."""
