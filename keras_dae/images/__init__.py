"""Image files: read for training, decoded and encoded for denoising; and the conversion of pixels to [0, 1]."""
