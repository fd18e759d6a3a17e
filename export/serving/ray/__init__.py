"""The app for Ray Serve that speaks TensorFlow Serving's REST and gRPC."""
