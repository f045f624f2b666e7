"""Made-up results, and the page of a made-up study, for these tests."""

from made_page import page, study, three_arms  # noqa: F401 (fixtures)
from made_results import draw, make_run, make_task, write_output  # noqa: F401 (fixtures)
