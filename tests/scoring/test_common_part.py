"""Two models hold different amounts of a long text: what is compared are the same characters."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from oracle import statistics

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.attacks.judging import judged_text
from midistill_tasks.attacks.neighbor import REWRITERS
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import REFERENCE, TEXT, TokenStats


def by_hand(lm, text, limit):
    """ℓ of each scored token, one text at a time in float64, and the character at which it ends."""
    encoded = lm.tokenizer(text, return_offsets_mapping=True)
    ids, ends = encoded["input_ids"][:limit], [end for _, end in encoded["offset_mapping"][:limit]]
    return statistics(lm.model, ids, 1)[:, 0], np.array(ends)[1:], ends[-1]


def expected(target, reference, text, limits):
    """The difference of the means over the characters that both cover, each to its last token within them."""
    sides = [by_hand(lm, text, limit) for lm, limit in zip((target, reference), limits, strict=True)]
    common = min(covered for _, _, covered in sides)
    means = [logprob[ends <= common].mean() for logprob, ends, _ in sides]
    return means[0] - means[1]


def scored(scoring, target, reference, texts):
    requests = [ViewRequest(text, TEXT) for text in texts]
    requests += [ViewRequest(text, REFERENCE, reference=reference) for text in texts]
    answers = scoring.ask(target, requests)
    pairs = zip(answers[: len(texts)], answers[len(texts) :], strict=True)
    return [ATTACKS["ref"].score({"text": one, "reference": other}, {}) for one, other in pairs]


@pytest.mark.parametrize("limits", [(256, 24), (24, 256), (30, 24), (256, 256)])
def test_ref_is_the_oracles_over_the_common_characters(limits, tiny, texts, scoring):
    """A model with BOS against one without; texts of which some are cut by one, by both or by none."""
    long = [" ".join([text, *texts[: index % 4]]) for index, text in enumerate(texts[:12])]
    target = scoring.load(tiny("gpt2"), max_length=limits[0])
    other = scoring.load(tiny("llama", seed=1))
    spec = {"pretrained": str(tiny("llama", seed=1)), "dtype": "float32", "max_length": limits[1]}

    got = scored(scoring, target, json.dumps(spec), long)

    assert got == pytest.approx([expected(target, other, text, limits) for text in long], rel=1e-4, abs=1e-5)
    whole = [expected(target, other, text, (256, 256)) for text in long]
    assert (np.abs(np.array(got) - whole).max() > 0.05) == (limits != (256, 256))  # it would have been seen


def test_the_run_says_how_many_texts_are_judged_by_their_beginning(tiny, scoring, run_files, caplog):
    reference = {"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32", "max_length": 12}
    result = run_files(scoring.load(tiny("gpt2")), ["ref", "loss"], {"reference": reference})

    counts = [result["configs"][f"mia_{name}_files"]["metadata"]["midistill"]["counts"] for name in ("ref", "loss")]
    lengths = [row["doc"]["n_tokens"] for row in result["samples"]["mia_loss_files"]]
    assert counts[0]["common_part"] == sum(length > 11 for length in lengths) > 0
    assert "common_part" not in counts[1]
    assert max(row["doc"]["n_tokens"] for row in result["samples"]["mia_ref_files"]) == 11
    assert f"{counts[0]['common_part']} of 30 texts are judged by their beginning" in caplog.text


def test_without_a_common_token_there_is_no_score():
    def stats(ends, cut=False):
        logprob = np.full(len(ends), -1, dtype=np.float32)
        return TokenStats(logprob, words="x" * ends[-1], ends=lambda: ends, truncated=cut)

    assert math.isnan(ATTACKS["ref"].score({"text": stats([9, 12]), "reference": stats([4, 6], cut=True)}, {}))
    assert ATTACKS["ref"].score({"text": stats([3, 12]), "reference": stats([4, 6], cut=True)}, {}) == 0.0


def test_a_changed_text_of_another_length_is_compared_whole_unless_a_model_cut_one(tiny, scoring, monkeypatch):
    """A neighbour is seldom as long as its text, and `İ` has two characters in lower case."""
    monkeypatch.setitem(REWRITERS._items, "masked", lambda model, text, count: (f"{text} on", f"{text[:-6]} a"))
    text = "Where İlker lives the river meets the sea near İstanbul"
    neighbor = {"neighbor_model": "made-up", "neighbors": 2}
    for limit, whole in ((256, True), (12, False)):
        lm = scoring.load(tiny("gpt2"), max_length=limit)
        for name, options, formula in (
            ("neighbor", neighbor, lambda own, *others: own - np.mean(others)),
            ("lowercase", {}, lambda own, lower: lower / own),
        ):
            views = ATTACKS[name].views_of(options)
            answers = scoring.ask(lm, [ViewRequest(text, view) for view in views])
            found = judged_text(ATTACKS[name], {"none": options}, dict(zip(views, answers, strict=True)))

            means = [statistics(lm.model, lm.tok_encode(view.of(text)), 1)[:, 0].mean() for view in views]
            assert math.isclose(found.scores["none"], formula(*means), rel_tol=1e-4) is whole
            assert found.length.truncated is not whole
            assert not (whole and found.common_part)


@pytest.mark.slow
def test_texts_longer_than_the_reference_holds(shared, stories260k, smollm2, scoring):
    """stories260K holds 512 of its short tokens, SmolLM2 2,048 of its long ones: texts of some 256 words."""
    rows = [json.loads(line)["input"] for line in (shared / "data/wikimia/wikimia_128.jsonl").read_text().splitlines()]
    long = [f"{rows[index]} {rows[index + 1]}" for index in (0, 2)]
    target, other = scoring.load(**smollm2), scoring.load(stories260k)
    reference = json.dumps({"pretrained": str(stories260k), "dtype": "float32"})

    got = scored(scoring, target, reference, long)

    assert got == pytest.approx([expected(target, other, text, (2048, 512)) for text in long], rel=1e-4)
