"""What looks on while a Trainer trains: progress, blow-ups, leakage, and signals to stop."""
