"""Statistics of tokens on disk: files, the shards that are one split, and their texts one after another."""
