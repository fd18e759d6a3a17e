"""Serving: configuration for TensorFlow Serving, a client for it, and an app for Ray Serve that has the same API."""
