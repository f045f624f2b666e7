"""Which members are left to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from midistill_tasks.distill.data import Texts, kept_members, text_id
from midistill_tasks.distill.reading import pool_of
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.interventions import Interventions
from midistill_tasks.recipes.schema import Recipe

MEMBERS = [f"member number {number}" for number in range(20)]


def kept(members: list[str], seed: int = 0, **interventions: Any) -> list[int]:
    return kept_members(members, Interventions(**interventions).chosen, seed)


@pytest.fixture
def selection(tmp_path: Path) -> str:
    """A selection by which the first 8 of MEMBERS are vulnerable."""
    (tmp_path / "selection.json").write_text("{}")
    for name, texts in (("vulnerable", MEMBERS[:8]), ("non_vulnerable", MEMBERS[8:])):
        lines = (json.dumps({"id": text_id(text), "text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    return str(tmp_path)


def test_non_vulnerable_keeps_the_others(selection):
    assert kept(MEMBERS, selection=selection, non_vulnerable=True) == list(range(8, 20))


def test_random_drop_drops_as_many_but_others(selection):
    given = {"selection": selection, "random_drop": True}
    positions = kept(MEMBERS, **given)
    assert len(positions) == len(set(positions)) == 12
    assert positions == kept(MEMBERS, **given) != kept(MEMBERS, seed=1, **given)
    assert set(positions) & set(range(8))


@pytest.mark.parametrize("seed", range(5))
def test_arm_and_control_train_on_equally_many_members_that_each_attack_judges(tmp_path, seed):
    """Some members have no score under an attack: none is called a member, so all of them stay in the arm."""
    (tmp_path / "selection.json").write_text("{}")
    unscored = {0: ["mink"], 1: ["mink"], 2: ["mink"], 9: ["loss", "mink"]}
    for name, numbers in (("vulnerable", [0, *range(10, 20)]), ("non_vulnerable", range(1, 10))):
        rows = [
            {"id": text_id(MEMBERS[n]), "text": "", **({"unscored": unscored[n]} if n in unscored else {})}
            for n in numbers
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arm = kept(MEMBERS, seed, selection=str(tmp_path), non_vulnerable=True)
    control = kept(MEMBERS, seed, selection=str(tmp_path), random_drop=True)
    assert len(arm) == len(control)
    for attack in ("loss", "mink"):
        judged = {n for n in range(20) if attack not in unscored.get(n, [])}
        assert len(judged & set(arm)) == len(judged & set(control))


@pytest.mark.parametrize(("share", "size"), [(0.0, 8), (0.05, 9), (0.5, 14), (1.0, 20)])
def test_vulnerable_plus_adds_a_share_of_the_others(selection, share, size):
    positions = kept(MEMBERS, selection=selection, vulnerable_plus=share)
    assert len(positions) == size
    assert set(range(8)) <= set(positions)


def test_a_selection_of_other_members_is_refused(selection):
    with pytest.raises(InputError, match=r"8 are not in the data, and 1 of the data's 13.*run lm_eval"):
        kept([*MEMBERS[8:], "another text"], selection=selection, random_drop=True)


def test_a_selection_of_fewer_members_says_how_many_to_draw(selection):
    with pytest.raises(InputError, match=r"1 of the data's 21 are not in it: set data\.n: 20 and"):
        kept([*MEMBERS, "another text"], selection=selection, random_drop=True)


def test_without_one_of_them_everybody_stays():
    assert kept(MEMBERS, nonorm=True, temperature=2.0) == list(range(20))


def test_nobody_left_is_an_error(selection):
    (Path(selection) / "non_vulnerable.jsonl").write_text("")
    with pytest.raises(InputError, match=r"no member is left to train on \(8 of 8 are vulnerable\)"):
        kept(MEMBERS[:8], selection=selection, non_vulnerable=True)


def test_a_random_share_follows_the_seed_and_holds_the_smaller_ones():
    half, quarter = (set(kept(MEMBERS, random_keep=share)) for share in (0.5, 0.25))
    assert (len(half), len(quarter)) == (10, 5)
    assert quarter < half
    assert half == set(kept(MEMBERS, random_keep=0.5)) != set(kept(MEMBERS, seed=1, random_keep=0.5))
    assert len(kept(MEMBERS, random_keep=0.001)) == 1


def test_a_random_share_is_one_of_the_texts_that_are_trained_on(tmp_path):
    """Also where those are not the members."""
    for name, texts in (("members", MEMBERS), ("others", [f"another text {number}" for number in range(8)])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = {"members": str(tmp_path / "members.jsonl"), "distil_on": str(tmp_path / "others.jsonl")}
    recipe = Recipe.model_validate(
        {
            **{"output": str(tmp_path / "out"), "teacher": {"model": "m"}, "student": {"checkpoint": "m"}},
            **{"data": data, "interventions": {"random_keep": 0.5}},
        }
    )
    pool, _ = pool_of(recipe, Texts(MEMBERS, []), None, None, {})
    assert len(pool) == 8
    assert len(kept_members(pool, recipe.interventions.chosen, 0)) == 4
