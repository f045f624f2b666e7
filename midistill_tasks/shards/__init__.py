"""A split scored in shards: by workers that load the model once, here or on the machines of a cluster."""
