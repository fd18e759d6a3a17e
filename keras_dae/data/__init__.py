"""From a config to batches: where images come from, how they are split, and the tf.data pipelines."""
