"""Made-up models and recipes, and a training's noise, for these tests."""

import pytest
from made_students import recipe_of, stock, teacher_folder, tiny  # noqa: F401 (fixtures)
from warm import _one_description, _warm_reload  # noqa: F401 (fixtures)


@pytest.fixture(autouse=True)
def _needs_opacus():
    pytest.importorskip("opacus", reason="pip install 'midistill[dp]'")
