"""Texts with scores for these tests."""

from made_scores import _each_test_hears_its_warnings  # noqa: F401 (a fixture)
