"""Hides what a text says and keeps its shape, for pages that are passed on."""

from __future__ import annotations

import unicodedata


def mask(text: str) -> str:
    """Capital letters become X, other letters x, digits 0; spaces, punctuation and symbols stay."""
    return "".join(_hidden(character) for character in text)


def _hidden(character: str) -> str:
    if character.isalpha() or unicodedata.category(character).startswith("M"):  # accents, vowel signs
        return "X" if character.isupper() else "x"
    return "0" if character.isnumeric() else character
