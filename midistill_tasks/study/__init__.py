"""A teacher, its students and what is measured of them, from one recipe to one page."""
