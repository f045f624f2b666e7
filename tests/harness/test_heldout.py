from __future__ import annotations

import math

import pytest
from lm_eval.tasks import TaskManager

from midistill_tasks.errors import InputError
from midistill_tasks.harness import yaml_folder
from midistill_tasks.harness.heldout import nonmembers


def manager(mia=None):
    return TaskManager(include_defaults=False, include_path=[str(yaml_folder())], metadata={"mia": mia or {}})


def test_the_documents_are_the_nonmembers_that_the_attacks_score():
    loaded = manager({"n": 30, "seed": 5}).load(["mia_privacy_utility"])["tasks"]
    scored = [doc["text"] for doc in loaded["mia_loss_bios"].test_docs() if doc["label"] == 0]
    assert [doc["text"] for doc in loaded["heldout_bios"].test_docs()] == scored
    assert len(scored) == 30


def test_columns_of_another_name_are_found(tmp_path):
    path = tmp_path / "wikimia_64.jsonl"
    rows = [f'{{"input": "a text of number {n}", "label": {n % 2}}}' for n in range(12)]
    path.write_text("\n".join(rows))
    found = nonmembers("wikimia_64", mia={"dataset_path": str(path), "shots": 1})["test"]["text"]
    assert list(found) == [f"a text of number {n}" for n in (2, 4, 6, 8, 10)]


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="'heldout' is 'bois'"):
        nonmembers("bois")


def test_its_perplexity_is_that_of_a_plain_loop(tmp_path):
    import torch
    from lm_eval import simple_evaluate
    from transformers import GPT2Config, GPT2LMHeadModel

    from midistill_tasks.distill.fine_tune import train_tokenizer

    texts = nonmembers("bios", mia={"n": 3})["test"]["text"]
    tokenizer = train_tokenizer(list(texts), 300)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=16, n_layer=1, n_head=2))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path), "dtype": "float32"},
        tasks=["heldout_bios"],
        device="cpu",
        batch_size=1,
        task_manager=manager({"n": 3}),
        bootstrap_iters=0,
    )
    total, words = 0.0, 0
    for text in texts:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            logprobs = model.eval()(ids).logits.double().log_softmax(-1)
        total += sum(float(logprobs[0, at - 1, ids[0, at]]) for at in range(1, ids.shape[1]))
        words += len(text.split())
    found = results["results"]["heldout_bios"]
    assert found["word_perplexity,none"] == pytest.approx(math.exp(-total / words), rel=1e-3)


def test_leaderboard_privacy_is_the_leaderboard_and_the_papers_sets():
    """Its structure only: the leaderboard's data is not reachable from here."""
    text = (yaml_folder() / "leaderboard_privacy.yaml").read_text()
    assert "- leaderboard\n- mia_paper\n" in text


def test_texts_that_must_not_be_logged_are_refused_since_the_harness_would_log_them():
    with pytest.raises(InputError, match=r"heldout_bios: .*leave this task out"):
        nonmembers("bios", mia={"log_text": False})
