"""What TensorFlow Serving needs beside the model: compose file, configuration and a client; and its API on Ray."""
