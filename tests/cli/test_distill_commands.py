from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import dump_recipe, load_recipe

VERBS = ("distill", "recipes", "select", "supervision", "export")


def run(verb: str, *arguments: str) -> int:
    module = importlib.import_module(f"midistill_tasks.cli.{verb}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    status: int = module.run(parser.parse_args(list(arguments)))
    return status


def test_help_needs_neither_torch_nor_the_harness():
    code = f"""
import argparse, importlib, sys
for verb in {VERBS!r}:
    parser = argparse.ArgumentParser()
    importlib.import_module("midistill_tasks.cli." + verb).add_arguments(parser)
    parser.format_help()
sys.exit(bool({{"torch", "transformers", "lm_eval", "datasets"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_help_of_distill_teaches_the_recipe(capsys):
    with pytest.raises(SystemExit):
        run("distill", "--help")
    text = capsys.readouterr().out
    for taught in ("every_nth_layer", "--set train.epochs=3", "--resume", "torchrun", "bottleneck"):
        assert taught in text


def test_recipes_lists_shows_and_teaches(capsys, tmp_path):
    run("recipes")
    text = capsys.readouterr().out
    for name in ("bios", "gpt2-to-distilgpt2", "pythia-160m-to-distilpythia", "fine_tune"):
        assert name in text
    run("recipes", "bios")
    (tmp_path / "copy.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / "copy.yaml")) == load_recipe("bios")


def test_distill_and_export(recipe_of, tmp_path, capsys):
    recipe = recipe_of(interventions={"bottleneck": 4, "foldable": True})
    path = tmp_path / "written.yaml"
    path.write_text(dump_recipe(recipe))
    assert run("distill", str(path), "--set", "train.epochs=1") == 0
    assert "student_loss_auroc" in capsys.readouterr().out
    assert load_recipe(f"{recipe.output}/recipe.yaml").train.epochs == 1
    assert run("export", recipe.output, "--plain", "--output", str(tmp_path / "plain")) == 0
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["model_type"] == "gpt_neox"
    with pytest.raises(InputError, match="already"):
        run("export", str(tmp_path / "plain"), "--plain", "--output", str(Path(tmp_path) / "again"))
