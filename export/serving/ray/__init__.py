"""The app for Ray Serve, with the REST and gRPC APIs of TensorFlow Serving."""
