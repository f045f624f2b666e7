"""Attacks by shadow models: models like the target, trained by the attacker on draws of the same texts.

They know more than an attacker who holds the model alone: what they reach is what an attacker reaches who can train
such models himself. A shadow is never the target, and its draw never the target's.
"""
