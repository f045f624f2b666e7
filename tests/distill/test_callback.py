from __future__ import annotations

import json
import math

import pytest
import torch
from lm_eval.tasks import TaskManager

from midistill_tasks.distill.callbacks.leakage import Sample
from midistill_tasks.distill.data import encode, said_of_cut
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.harness import yaml_folder
from midistill_tasks.models import saving


def test_the_figures_agree_with_plain_loops(tiny):
    model = tiny.model(seed=2).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    tokenizer, texts = tiny.tokenizer(), tiny.texts(14)
    rows = tokenizer(texts)["input_ids"]
    members = [(f"m{number}", row) for number, row in enumerate(rows[:7])]
    nonmembers = [(f"n{number}", row) for number, row in enumerate(rows[7:])]
    sample = Sample(members, nonmembers, tokenizer, texts[7:10], texts[7:])
    found, whole = sample.measure(model), sample.measure_whole(model)
    assert model.training

    model.eval()
    losses: dict[str, list[float]] = {}
    for name, row in members + nonmembers:
        log_p = model(torch.tensor([[tokenizer.eos_token_id, *row]])).logits[0].detach().double().log_softmax(-1)
        losses[name] = [-float(log_p[t, row[t]]) for t in range(len(row))]
    for figures, measured in ((found, range(3)), (whole, range(7))):
        total = sum(sum(losses[f"n{number}"]) for number in measured)
        held_out = [texts[7 + number] for number in measured]
        for unit, size in (("byte", sum(map(len, held_out))), ("word", sum(len(text.split()) for text in held_out))):
            assert figures[f"heldout_{unit}_perplexity"] == pytest.approx(math.exp(total / size), rel=1e-4)
    for name, row in members + nonmembers:  # an attack has nothing in front of a text
        log_p = model(torch.tensor([row])).logits[0].detach().double().log_softmax(-1)
        losses[name] = [-float(log_p[t, row[t + 1]]) for t in range(len(row) - 1)]
    means = {name: sum(tokens) / len(tokens) for name, tokens in losses.items()}
    pairs = [(means[m], means[n]) for m, _ in members for n, _ in nonmembers]
    assert found["loss_auroc"] == pytest.approx(sum(member < other for member, other in pairs) / len(pairs))


def test_a_run_s_perplexities_are_the_harness_s_own(recipe_of, tmp_path, monkeypatch, tiny):
    """On whole texts, those that are longer than the model reads at once too, though training and sample cut them."""
    from lm_eval import simple_evaluate

    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    recipe = recipe_of(data__max_length=8)
    with (tmp_path / "nonmembers.jsonl").open("a") as file:
        file.write(json.dumps({"text": " ".join(tiny.texts(40, seed=5))}) + "\n")
    record = run_recipe(recipe)
    assert (
        record.measured["student_heldout_word_perplexity"]
        != [
            line["student_heldout_word_perplexity"] for line in record.log if "student_heldout_word_perplexity" in line
        ][-1]
    )  # the sample's
    options = {"mia": {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")}}
    for role, folder in (("student", recipe.output), ("teacher", recipe.teacher.model)):
        results = simple_evaluate(
            model="hf",
            model_args={"pretrained": str(folder), "dtype": "float32"},
            tasks=["heldout_files"],
            device="cpu",
            batch_size=4,
            task_manager=TaskManager(include_defaults=False, include_path=[str(yaml_folder())], metadata=options),
            bootstrap_iters=0,
        )["results"]["heldout_files"]
        for unit in ("byte", "word"):
            ours = record.measured[f"{role}_heldout_{unit}_perplexity"]
            assert ours == pytest.approx(results[f"{unit}_perplexity,none"], rel=1e-4)


@pytest.mark.parametrize("length", [4, 8, 16])
def test_what_is_cut_is_said_in_one_sentence(length, recipe_of, caplog, monkeypatch, tiny):
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    record = run_recipe(recipe_of(data__max_length=length, train__epochs=1))
    said = [line.getMessage() for line in caplog.records if "data.max_length" in line.getMessage()]
    longest = max(len(text.split()) for text in tiny.texts(48)[:24])
    if length == 16:
        assert said == []
        return
    which = "all 24 texts" if record.counts["cut"] == 24 else f"{record.counts['cut']} of 24 texts"
    assert said == [
        f"{which} are longer than data.max_length ({length} tokens; longest {longest}): the student learns their first"
        f" {length} tokens, but is attacked on whole texts; --set data.max_length={longest} keeps more"
    ]


def test_no_more_is_advised_than_the_model_reads(tiny):
    texts = encode(["w1 " * 90, "w2 " * 3], tiny.tokenizer(), 32)
    assert said_of_cut(texts, 32, 64).endswith(
        "1 of 2 texts are longer than data.max_length (32 tokens; longest 90): "
        "the student learns their first 32 tokens, but is attacked on whole texts; --set data.max_length=64 keeps more"
    )
    assert said_of_cut(texts, 32, 32).endswith("attacked on whole texts")
