"""The parity check: every export is run in a fresh process and compared with Keras, pixel by pixel."""
