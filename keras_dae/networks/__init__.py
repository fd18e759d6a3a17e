"""The networks: their geometry, their layers, and the file that they are kept in."""
