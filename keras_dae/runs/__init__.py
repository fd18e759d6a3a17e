"""The run folder: its files, its config.json, and whether it may be replaced."""
