"""Another package brings a step of a study: one file, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from made_package import install, run_with

STEP = '''
"""A step of another package: how long the members are, and a summary of that."""
import json

from pydantic import Field

from midistill_tasks import InputError, Part, StudyStep, step


@step("lengths", "measure the members")
class Lengths(StudyStep):
    unit: str = Field("words", description="words or characters")
    shares: list[int] = Field([1, 2], description="one part each: of every so many members, one")

    def parts(self, study):
        parts = [Part(f"lengths/{share}", needs=("data", "evaluate:teacher")) for share in self.shares]
        return [Part("lengths", needs=tuple(f"lengths:{part.name}" for part in parts)), *parts]

    def writes(self, study, part):
        from pathlib import Path

        return Path(study.output) / (part.name.replace("/", "-") + ".json")

    def check(self, work, left):
        if self.unit not in ("words", "characters"):
            raise InputError(f"lengths.unit: '{self.unit}' is neither words nor characters")

    def cost(self, study, part, sizes):
        return 0.0

    def run(self, work, part):
        written = work.written(part)
        if part.name == "lengths":
            found = {other.name: json.loads(work.written(other).read_text()) for other in work.parts
                     if other.step == "lengths" and other != part}
        else:
            if part.name == "lengths/9":
                raise InputError("nine is too many")
            members = work.texts.members[:: int(part.name.rpartition("/")[2])]
            found = sum(len(text.split() if self.unit == "words" else text) for text in members)
        written.write_text(json.dumps(found))
'''

RUN = "import sys; from midistill_tasks.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def study(tmp_path: Path, shared: Path) -> dict[str, object]:
    """A study of a ready-made model."""
    for name in ("members", "nonmembers"):
        rows = (json.dumps({"text": f"the {name} text number {number} of many"}) for number in range(30))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    model = str(shared / "models" / "stories260K")
    return {
        "output": str(tmp_path / "study"),
        "teacher": {"model": model},
        "models": {"student": model},
        "data": {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")},
        "evaluate": {"attacks": ["loss"]},
    }


@pytest.fixture
def midistill(tmp_path: Path):
    """``midistill(study, *arguments)``, in a process that has the package; its exit status, stdout and stderr."""
    install(tmp_path / "site", "made_step", STEP, "midistill.steps")

    def midistill(study, *arguments):
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        done = run_with(tmp_path / "site", RUN, "study", str(tmp_path / "study.yaml"), *arguments)
        return done.returncode, done.stdout, done.stderr

    return midistill


@pytest.mark.slow
def test_a_step_of_another_package_is_planned_done_and_not_done_again(midistill, study, tmp_path):
    study["lengths"] = {"shares": [1, 3]}
    status, plan, errors = midistill(study, "--dry-run")
    assert status == 0, errors
    lines = [line.split()[0] for line in plan.splitlines() if "measure the members" in line]
    assert lines == ["lengths/1", "lengths/3", "lengths"]
    status, _, errors = midistill(study)
    assert status == 0, errors
    assert json.loads((tmp_path / "study" / "lengths.json").read_text()) == {"lengths/1": 210, "lengths/3": 70}
    assert midistill(study, "--dry-run")[1].count("done") == 5


@pytest.mark.slow
def test_what_needs_a_part_that_failed_is_left_out_and_the_rest_is_done(midistill, study, tmp_path):
    status, said, errors = midistill(study | {"lengths": {"shares": [9, 2]}})
    assert status == 1, errors
    assert "failed: lengths/9, measure the members: nine is too many" in said
    assert (tmp_path / "study" / "lengths-2.json").exists()
    assert not (tmp_path / "study" / "lengths.json").exists()
    assert (tmp_path / "study" / "report" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ({"unit": "pages"}, "lengths.unit: 'pages' is neither words nor characters"),
        ({"units": "words"}, "'lengths.units' is no option (did you mean 'unit'"),
    ],
)
def test_its_mistakes_are_named_before_anything_is_done(midistill, study, tmp_path, lengths, said):
    status, _, errors = midistill(study | {"lengths": lengths})
    assert status == 2
    assert said in errors
    assert not (tmp_path / "study").exists()
