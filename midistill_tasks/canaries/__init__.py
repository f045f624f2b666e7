"""Canaries to plant in training data: how they are made, and whether a training file holds them as planned."""
