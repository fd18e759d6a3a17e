"""Small helpers that know nothing of images: atomic files, JSON, archives, threads, lazy names."""
