"""Image files: read for training, and read and written for denoising."""
