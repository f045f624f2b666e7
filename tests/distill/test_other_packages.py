"""Another package brings a divergence, and an intervention with its control: one file each, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_package import install, run_with

from midistill_tasks.recipes.file import dump_recipe

DIVERGENCE = '''
"""A divergence of another package."""
from midistill_tasks import divergence, option


@divergence("tv")
def total_variation(p, log_p, q, log_q, *, weight: float = option(1.0, "of all", gt=0)):
    """Half of what the probabilities differ by."""
    gradient = (q - p).sign().mul_(weight / 2)
    value = (gradient * (q - p)).sum(-1)
    return value, q.mul_(gradient - (q * gradient).sum(-1, keepdim=True))
'''

INTERVENTIONS = '''
"""An intervention of another package, and its control."""
from pydantic import Field

from midistill_tasks import Intervention, intervention


@intervention("dropout", "after each FFN, in training", control="gain")
class Dropout(Intervention):
    p: float = Field(gt=0, lt=1)
    advice = "dropout is noise"

    def apply(self, model, config):
        from torch.nn.functional import dropout

        from midistill_tasks.models.surgery import first_projections

        for ffn, _ in first_projections(model, config):
            ffn.register_forward_hook(lambda ffn, inputs, output: dropout(output, self.p, ffn.training))


@intervention("gain", "control: of the logits")
class Gain(Intervention):
    by: float = Field(gt=0, description="factor")
    shift: float = Field(0.0, description="summand")

    def logits(self, x):
        return x * self.by + self.shift
'''


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Any]:
    """Runs code in a process that has the package, or has not: what it prints last, as JSON."""
    install(tmp_path / "site", "made_divergence", DIVERGENCE, "midistill.divergences")
    install(tmp_path / "site", "made_interventions", INTERVENTIONS, "midistill.interventions")

    def python(code: str, *arguments: object, installed: bool = True) -> Any:
        run = run_with(tmp_path / ("site" if installed else "empty"), code, *map(str, arguments))
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout.splitlines()[-1])

    return python


@pytest.fixture
def plain(recipe_of: Callable[..., Any], tmp_path: Path) -> Path:
    """A recipe without any of it."""
    path = tmp_path / "plain.yaml"
    path.write_text(dump_recipe(recipe_of(train__epochs=1)))
    return path


DISTILL = """
import json, sys
from midistill_tasks.cli.main import main
recipe, output = sys.argv[1:3]
set_all = [part for setting in sys.argv[3:] for part in ("--set", setting)]
assert main(["distill", recipe, "--set", f"output={output}", *set_all]) == 0
"""

LOAD = """
import torch
from transformers import AutoModelForCausalLM
from midistill_tasks.models.architectures import register
register()
model = AutoModelForCausalLM.from_pretrained(output).eval()
ids = torch.arange(2, 12)[None]
with torch.no_grad():
    logits, stock = model(ids).logits, type(model).__mro__[1].forward(model, ids).logits
    torch.manual_seed(0)
    trained = model.train()(ids).logits
print(json.dumps({"type": type(model).__name__, "exactly": torch.equal(logits, 2 * stock + 1),
                  "trains otherwise": not torch.allclose(trained, stock)}))
"""


@pytest.mark.slow
def test_a_divergence_with_an_option(python: Callable[..., Any], plain: Path, tmp_path: Path) -> None:
    settings = ("loss.divergence=tv", "loss.weight=3.0", "train.log_every=1")
    code = DISTILL + 'print(json.dumps(json.load(open(f"{output}/midistill.json"))["log"]))'
    log = python(code, plain, tmp_path / "student", *settings)
    values = [line["divergence"] for line in log if "divergence" in line]
    assert values
    assert all(0 < value < 3 for value in values)
    assert "weight: 3.0" in (tmp_path / "student" / "recipe.yaml").read_text()


@pytest.mark.slow
def test_an_intervention_is_trained_saved_and_loaded(python: Callable[..., Any], plain: Path, tmp_path: Path) -> None:
    answer = python(DISTILL + LOAD, plain, tmp_path / "student", "interventions={dropout: {p: 0.5}}")
    assert answer == {"type": "MidistillGPTNeoXForCausalLM", "exactly": False, "trains otherwise": True}
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["midistill"] == {"base": "gpt_neox", "dropout": 0.5}
    assert "dropout: 0.5" in (tmp_path / "student" / "recipe.yaml").read_text()


@pytest.mark.slow
def test_its_control_has_two_fields(python: Callable[..., Any], plain: Path, tmp_path: Path) -> None:
    settings = "interventions={gain: {by: 2.0, shift: 1.0}}"
    answer = python(DISTILL + LOAD, plain, tmp_path / "student", settings)
    assert answer == {"type": "MidistillGPTNeoXForCausalLM", "exactly": True, "trains otherwise": False}
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["midistill"] == {"base": "gpt_neox", "gain": {"by": 2.0, "shift": 1.0}}


def test_the_recipe_knows_and_explains_their_keys(python: Callable[..., Any], plain: Path) -> None:
    code = """
import json, sys
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import describe_recipe, load_recipe
said = []
for setting in sys.argv[2:]:
    try:
        load_recipe(sys.argv[1], [setting])
    except InputError as error:
        said.append(str(error))
light = not {"torch", "transformers"} & set(sys.modules)
print(json.dumps({"said": said, "text": describe_recipe(), "light": light}))
"""
    answer = python(
        code,
        plain,
        "interventions={dropout: 0.1, gain: {by: 2.0}}",
        "interventions={gain: {by: 2.0, shfit: 1.0}}",
        "interventions={gain: {by: 0}}",
        "interventions={dropout: {q: 0.1}}",
        "interventions={dropout: {}}",
        "interventions={dropout: 1.5}",
        "interventions={dropuot: 0.1}",
        "loss.divergence=tvv",
        "loss.weight=0",
    )
    expected = (
        "'gain' is the control of 'dropout': keep one",
        "'interventions.gain.shfit' is no option (did you mean 'shift'?)",
        "'interventions.gain.by': input should be greater than 0",
        "'dropout.q' is no option; 'dropout' knows p",
        "'dropout' needs 'p'",
        "'interventions.dropout': input should be less than 1",
        "'interventions.dropuot' is no option (did you mean 'dropout'?)",
        "there is no divergence 'tvv' (did you mean 'tv'?); divergences: forward_kl",
        "'loss.weight': input should be greater than 0",
    )
    for message, part in zip(answer["said"], expected, strict=True):
        assert part in message
    assert "  weight: tv: of all [1.0]\n" in answer["text"]
    assert "  dropout: after each FFN, in training\n" in answer["text"]
    assert "  gain: control: of the logits\n    by: factor\n    shift: summand [0.0]\n" in answer["text"]
    assert answer["light"]


@pytest.mark.slow
def test_what_depends_on_the_package_says_so_without_it(
    python: Callable[..., Any], plain: Path, tmp_path: Path, recipe_of: Callable[..., Any]
) -> None:
    python(DISTILL + "print(1)", plain, tmp_path / "student", "interventions={dropout: 0.5}")
    code = """
import json, sys
from midistill_tasks.distill.run_folder import open_run
from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import register
from midistill_tasks.recipes.file import load_recipe
from transformers import AutoModelForCausalLM
register()
said = []
recipe = load_recipe(sys.argv[2], ["output=" + sys.argv[1]])
for act in (lambda: AutoModelForCausalLM.from_pretrained(sys.argv[1]), lambda: open_run(recipe, True)):
    try:
        act()
    except InputError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    student, folder = python(code, tmp_path / "student", plain, installed=False)
    assert "midistill.dropout: there is no such intervention" in student
    assert "install the package" in student
    assert "'interventions.dropout' is 0.5 there, None in this recipe" in folder
