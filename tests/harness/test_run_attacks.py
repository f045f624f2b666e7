"""What single attacks need of a run: shots of members, token frequencies, labels to learn from, several values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from made_backend import TableLM

from midistill_tasks.attacks.generation import halves
from midistill_tasks.attacks.neighbor import REWRITERS
from midistill_tasks.errors import InputError
from midistill_tasks.metrics import METRICS, Scored

from .conftest import N, write_rows

Run = Callable[..., dict[str, Any]]


def test_member_shots_have_no_score_where_they_stand_in_front_and_all_others_keep_theirs(run: Run, people, said):
    result = run("mia_loss_files,mia_conrecall_files")
    scored = {
        task: {row["doc"]["text"]: row["doc"]["score"] for row in result["samples"][f"mia_{task}_files"]}
        for task in ("loss", "conrecall")
    }
    missing = [text for text, score in scored["conrecall"].items() if math.isnan(score)]
    assert missing == people[0][:2]
    assert not any(map(math.isnan, scored["loss"].values()))
    assert said("2 of 48 texts are not scored: it is one of the shots that stand in front of the others")


def test_token_frequencies_are_of_a_corpus_or_of_the_judged_texts_without_labels(run: Run, tmp_path, people, said):
    def scores(**options):
        rows = run("mia_dcpdd_files", options)["samples"]["mia_dcpdd_files"]
        return {row["doc"]["text"]: row["doc"]["score"] for row in rows}

    own = scores()
    assert len(said("token frequencies are those of the judged texts themselves (labels unused)")) == 1
    judged = tmp_path / "judged.txt"
    judged.write_text("\n".join([*people[1][2:], *people[0]]))
    assert scores(corpus=str(judged)) == own
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": people[0][0]}))
    assert scores(corpus=str(other)) != own
    with pytest.raises(InputError, match=r"none\.txt"):
        run("mia_dcpdd_files", {"corpus": "none.txt"})


def test_what_is_learnt_from_labels_has_scores_within_each_half_and_a_wider_error(run: Run, people):
    result = run("mia_camia_files,mia_combined_files,mia_loss_files")
    for attack in ("camia", "combined"):
        rows = [row["doc"] for row in result["samples"][f"mia_{attack}_files"]]
        assert sorted(row["score"] for row in rows) == pytest.approx(sorted(2 * [(i + 0.5) / N for i in range(N)]))
        items = [Scored(row["label"], float(row["score"]), row["id"], row["cluster"]) for row in rows]
        figures = result["results"][f"mia_{attack}_files"]
        assert figures["auroc,none"] == METRICS["auroc"].value(items)
        assert figures["auroc_stderr,none"] == pytest.approx(math.sqrt(2) * METRICS["auroc"].stderr(items))


def test_combined_has_the_reference_s_figures_where_there_is_one(run: Run, tiny):
    def scores(**options):
        return [row["doc"]["score"] for row in run("mia_combined_files", options)["samples"]["mia_combined_files"]]

    with_reference = scores(reference={"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32"})
    assert with_reference != scores()
    assert not any(map(math.isnan, with_reference))


def test_too_few_texts_to_learn_from_is_said(run: Run, said):
    run("mia_camia_files", limit=16)
    assert said("16 of 16 texts are not scored: too few texts of a class in either half to learn from")


def test_a_swept_option_has_a_row_a_value_and_one_chosen_on_the_other_half(run: Run):
    result = run("mia_mink_files", {"k": [0.1, 0.3, 1.0]})
    row = result["results"]["mia_mink_files"]
    assert [key for key in row if key.startswith("auroc,")] == [
        f"auroc,{name}" for name in ("crossfit", "k=0.1", "k=0.3", "k=1.0")
    ]
    for k in (0.1, 0.3, 1.0):
        single = run("mia_mink_files", {"k": k})["results"]["mia_mink_files"]
        for name in ("auroc", "auroc_stderr", "tpr_at_1pct_fpr", "blind_auroc"):
            assert row[f"{name},k={k}"] == pytest.approx(single[f"{name},none"], nan_ok=True)
    samples = result["samples"]["mia_mink_files"]
    assert len(samples) == 4 * 2 * N
    chosen = [sample["doc"]["score"] for sample in samples if sample["filter"] == "crossfit"]
    assert sorted(chosen) == pytest.approx(sorted(2 * [(i + 0.5) / N for i in range(N)]))
    assert result["configs"]["mia_mink_files"]["metadata"]["midistill"]["learnt"] is True


def test_combined_does_without_what_cannot_be_had(run: Run, tmp_path, people, said):
    long = write_rows(
        tmp_path / "long.jsonl", [{"text": " ".join(people[1] * 9)}, *({"text": text} for text in people[1])]
    )
    result = run("mia_recall_files,mia_combined_files", {"nonmembers": str(long)})
    assert said("more than half of the model's")
    assert "auroc,none" not in result["results"].get("mia_recall_files", {})
    assert 0 <= result["results"]["mia_combined_files"]["auroc,none"] <= 1


class Remembering(TableLM):
    """Goes on from the beginning of a member's text as the text does."""

    def generate_until(self, requests: Any) -> list[str]:
        self.asked = [request.args for request in requests]
        going_on = {halves(text)[0]: halves(text)[1] for text in self.texts}
        return [going_on.get(context, "something else") for context, _ in self.asked]


def test_a_model_that_goes_on_as_its_members_do_is_found_without_a_log_probability(run: Run, people):
    lm = Remembering()
    lm.texts = people[0][:-1]
    result = run("mia_samia_files,mia_extraction_files", model=lm)
    figures = result["results"]["mia_extraction_files"]
    assert figures["verbatim_members,none"] == pytest.approx((N - 1) / N)
    assert figures["verbatim_members_stderr,none"] > 0
    assert figures["verbatim_nonmembers,none"] == 0.0
    assert figures["auroc,none"] > 0.95
    assert result["results"]["mia_samia_files"]["auroc,none"] > 0.95
    assert len(lm.asked) == (5 + 1) * 2 * N
    row = result["samples"]["mia_samia_files"][0]
    assert row["resps"] == [["Generated(samples=5)"]]


def test_samples_of_a_server_have_seeds_of_their_own(run: Run, people):
    class Server(Remembering):
        def _create_payload(self) -> None: ...

    for kind, seeds in ((Server, {0, 1, 2}), (Remembering, {None})):
        lm = kind()
        lm.texts = []
        run("mia_samia_files,mia_extraction_files", {"samples": 3}, model=lm)
        assert {kwargs.get("seed") for _, kwargs in lm.asked if kwargs["do_sample"]} == seeds
        assert {kwargs.get("seed") for _, kwargs in lm.asked if not kwargs["do_sample"]} == {None}


class Guessing(TableLM):
    """Says the next word of members' texts."""

    def generate_until(self, requests: Any) -> list[str]:
        self.asked = [request.args[0] for request in requests]
        going_on = [
            next((text[len(start) :] for text in self.texts if text.startswith(start)), "") for start in self.asked
        ]
        return [text[:12] for text in going_on]


def test_a_model_that_says_its_members_next_words_is_found(run: Run, people):
    lm = Guessing()
    lm.texts = people[0]
    result = run("mia_petal_files", {"guesses": 4}, model=lm)
    assert result["results"]["mia_petal_files"]["auroc,none"] == 1.0
    assert len(lm.asked) == len(set(lm.asked))  # what many texts begin with is asked once
    lm.asked = []
    with pytest.raises(InputError, match="embedding_model: 'no/such' cannot be loaded"):
        run("mia_petal_files", {"guesses": 4, "embedding_model": "no/such"}, model=lm)
    assert not lm.asked


def test_a_backend_that_does_not_generate_costs_only_these_attacks_their_figures(run: Run, said):
    result = run("mia_loss_files,mia_samia_files", model=TableLM())
    assert "auroc,none" in result["results"]["mia_loss_files"]
    assert "auroc,none" not in result["results"].get("mia_samia_files", {})
    assert said("the backend TableLM does not generate text")


def test_a_real_model_continues_texts_in_its_chat_template_where_the_run_applies_it(run: Run, lm, monkeypatch, said):
    plain = run("mia_extraction_files", limit=16)
    assert 0 <= plain["results"]["mia_extraction_files"]["auroc,none"] <= 1
    contexts = []
    monkeypatch.setattr(lm, "generate_until", lambda requests: [contexts.append(r.args[0]) or "" for r in requests])
    monkeypatch.setattr(lm, "apply_chat_template", lambda chat, **_: f"<user>{chat[0]['content']}</user>")
    monkeypatch.setattr(lm, "chat_template", lambda name=False: "template", raising=False)
    run("mia_extraction_files", limit=16, apply_chat_template=True, system_instruction="Be kind.")
    assert all(context.startswith("<user>") for context in contexts)
    assert not any("Be kind." in context for context in contexts)
    assert len(said("--system_instruction does not apply")) == 1


def test_a_text_that_the_model_knows_by_heart_comes_back_however_many_tokens_a_word_has(
    run: Run, lm, people, monkeypatch
):
    """Names and numbers have more than two tokens a word, and what is cut short is not the text."""
    rest = {halves(text)[0]: halves(text)[1] for side in people for text in side}
    words_alone = [2 * len(text.split()) + 8 for text in rest.values()]
    assert any(
        len(lm.tok_encode(text)) > 32 * -(-allowed // 32)
        for text, allowed in zip(rest.values(), words_alone, strict=True)
    )

    def by_heart(requests):
        tokens = [lm.tok_encode(rest[request.args[0]])[: request.args[1]["max_gen_toks"]] for request in requests]
        return [lm.tok_decode(each) for each in tokens]

    monkeypatch.setattr(lm, "generate_until", by_heart)
    result = run("mia_extraction_files")["results"]["mia_extraction_files"]
    assert (result["verbatim_members,none"], result["verbatim_nonmembers,none"]) == (1.0, 1.0)


def test_a_text_too_long_to_be_gone_on_with_costs_its_own_score_alone(run: Run, lm, people, tmp_path, said):
    assert lm.max_length == 256
    members = write_rows(tmp_path / "members.jsonl", [{"text": text} for text in (" ".join(people[0]), *people[0])])
    rows = run("mia_extraction_files,mia_loss_files", {"members": str(members)})["samples"]
    missing = [row["doc"]["text"] for row in rows["mia_extraction_files"] if math.isnan(row["doc"]["score"])]
    assert missing == [" ".join(people[0])]
    assert not any(math.isnan(row["doc"]["score"]) for row in rows["mia_loss_files"])
    assert said("1 of 49 texts are not scored: to go on with it may take ")


def test_neighbours_are_one_view_each_and_the_model_that_makes_them_must_be_named(run: Run, said, monkeypatch):
    def reworded(model: str, text: str, count: int) -> tuple[str, ...]:
        return tuple(f"{text} {model}{number}" for number in range(count))

    monkeypatch.setitem(REWRITERS._items, "masked", reworded)
    options = {"neighbor_model": "made-up", "neighbors": 3}
    rows = run("mia_neighbor_files,mia_loss_files", options)["samples"]
    loss = {row["doc"]["id"]: row["doc"]["score"] for row in rows["mia_loss_files"]}
    assert all(math.isfinite(row["doc"]["score"]) for row in rows["mia_neighbor_files"])
    assert all(row["doc"]["score"] != loss[row["doc"]["id"]] for row in rows["mia_neighbor_files"])
    with pytest.raises(InputError, match="mia_neighbor_files needs a masked language model that replaces words"):
        run("mia_neighbor_files")
    run("mia_all_files", {"samples": 1}, limit=4)
    assert said("mia_neighbor_files is left out: it needs a masked language model")
