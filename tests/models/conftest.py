"""Made-up teachers, students and recipes for these tests."""

from made_students import architecture, recipe_of, stock, teacher_folder, tiny  # noqa: F401 (fixtures)
