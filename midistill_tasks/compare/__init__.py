"""Teacher against student, arm against control: statistics over what `results` reads."""
