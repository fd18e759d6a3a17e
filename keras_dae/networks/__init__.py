"""The networks: their geometry, their layers, and the Keras file that stores them."""
