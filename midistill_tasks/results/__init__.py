"""What the harness wrote, read once and joined by text."""
