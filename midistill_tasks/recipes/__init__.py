"""Recipes: their schema, their files, and those that are shipped."""
