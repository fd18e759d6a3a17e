"""From a config to batches: load images, divide them into splits, and feed them to training with tf.data."""
