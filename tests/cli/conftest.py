"""Made-up results, recipes and teachers for these tests."""

from made_results import draw, make_run, make_task, write_output  # noqa: F401 (fixtures)
from made_students import recipe_of, teacher_folder, tiny  # noqa: F401 (fixtures)
from warm import _one_description, _warm_reload  # noqa: F401 (fixtures)
