"""Made-up teachers, students and recipes for these tests."""

from made_students import architecture, recipe_of, stock, teacher_folder, tiny  # noqa: F401 (fixtures)
from warm import _one_description, _warm_reload  # noqa: F401 (fixtures)
