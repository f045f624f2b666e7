"""Pseudo-log-likelihoods of masked language models, against an oracle that masks one token at a time in float64."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertTokenizerFast

from midistill_tasks.errors import InputError
from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.scoring.backends.hf.mlm import HFMaskedLM, MaskedScorer
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import AFTER_SHOTS, REFERENCE, TEXT, Unscored

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES |= {"initializer_range": 0.4}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "initializer_range": 0.4},
    "albert": {**SIZES, "embedding_size": 16},
    "mobilebert": {**SIZES, "embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    "roberta": {**SIZES, "max_position_embeddings": 65},
    "modernbert": {**SIZES, "local_attention": 8, "global_attn_every_n_layers": 2},
}


@pytest.fixture(scope="module")
def masked(tmp_path_factory, texts):
    """``masked("bert")``: the folder of a tiny one with random weights."""
    from tokenizers import BertWordPieceTokenizer

    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(texts, vocab_size=300, show_progress=False)
    (vocabulary,) = trained.save_model(str(tmp_path_factory.mktemp("vocabulary")))

    def make(family: str, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp(family)
        tokenizer = BertTokenizerFast(vocabulary, model_max_length=10**30 if family == "roberta" else 64)
        tokenizer.save_pretrained(folder)
        special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, **special, **FAMILIES[family]}
        torch.manual_seed(seed)
        AutoModelForMaskedLM.from_config(AutoConfig.for_model(family, **sizes)).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def bert(masked) -> Path:
    return masked("bert")


def load(folder: Path, **model_args: Any) -> HFMaskedLM:
    answer_requests()
    return HFMaskedLM(str(folder), **{"device": "cpu", "dtype": "float32", "batch_size": 16, **model_args})


def plain(texts: list[str]) -> list[ViewRequest]:
    return [ViewRequest(text, TEXT) for text in texts]


def oracle(folder: Path, text: str, limit: int = 62, words: bool = False) -> np.ndarray:
    """ℓ, μ, σ and arg-max hits of each token, masked alone (`words`: with the rest of its word), float64 [n, 4]."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    encoded = tokenizer(text, truncation=True, max_length=limit + 2)
    ids, word_ids, rows = encoded["input_ids"], encoded.word_ids(), []
    for place in range(1, len(ids) - 1):
        hidden = list(ids)
        for other in range(place, len(ids) - 1 if words else place + 1):
            if word_ids[other] == word_ids[place]:
                hidden[other] = tokenizer.mask_token_id
        with torch.no_grad():
            log_p = model(torch.tensor([hidden])).logits[0, place].double().log_softmax(-1)
        mean = (log_p.exp() * log_p).sum()
        std = ((log_p.exp() * log_p**2).sum() - mean**2).clamp(min=1e-6).sqrt()
        rows.append([float(log_p[ids[place]]), float(mean), float(std), float(log_p.argmax() == ids[place])])
    return np.array(rows)


def figures(answer: Any) -> np.ndarray:
    return np.stack([answer.logprob, answer.mean, answer.std, answer.greedy], axis=1).astype(np.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_token_is_predicted_from_all_others(masked, texts, scoring, family):
    folder = masked(family)
    some = [texts[5], texts[0], "Anna", texts[1] * 4]
    answers = scoring.ask(load(folder), plain(some))
    for text, answer in zip(some, answers, strict=True):
        expected = oracle(folder, text)
        np.testing.assert_allclose(figures(answer), expected, atol=1e-5 * np.abs(expected).max())
    assert [answer.truncated for answer in answers] == [False, False, False, True]
    assert len(answers[3]) == 62
    assert answers[3].n_chars < len(some[3])
    assert answers[2].n_chars == 4


def test_only_the_masked_place_goes_through_the_head_and_a_head_that_wants_all_gets_all(bert, texts, scoring):
    lm = load(bert)
    seen = []
    lm.model.cls.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    answers = scoring.ask(lm, plain(texts[:3]))
    assert set(seen[2:]) == {1}  # the first two compare both ways
    whole = load(bert)
    whole.model.register_forward_hook(lambda module, args, output: _mixed(output))
    other = scoring.ask(whole, plain(texts[:3]))
    assert not np.allclose(answers[0].logprob, other[0].logprob)
    assert not np.isnan(other[0].logprob).any()


def _mixed(output: Any) -> Any:
    """Logits that hang on those of other places."""
    output.logits = output.logits + output.logits.mean(1, keepdim=True) * output.logits.shape[1]
    return output


def test_a_batch_of_one_equals_a_batch_of_many_in_any_order(bert, texts, scoring):
    many = scoring.ask(load(bert), plain(texts[:8]))
    one = scoring.ask(load(bert, batch_size=1), plain(texts[:8][::-1]))[::-1]
    automatic = scoring.ask(load(bert, batch_size="auto"), plain(texts[:8]))
    for a, b, c in zip(many, one, automatic, strict=True):
        np.testing.assert_allclose(a.logprob, b.logprob, atol=1e-5)
        np.testing.assert_allclose(a.logprob, c.logprob, atol=1e-5)


def test_some_places_are_drawn_from_the_text_itself_and_the_error_of_the_draw_is_said(bert, texts, scoring, caplog):
    whole = scoring.ask(load(bert), plain(texts[:4]))
    drawn = scoring.ask(load(bert, positions=5), plain(texts[:4]))
    again = scoring.ask(load(bert, positions=5, batch_size=1), plain(texts[:4][::-1]))[::-1]
    tokenizer = AutoTokenizer.from_pretrained(bert)
    for text, all_places, some, same in zip(texts, whole, drawn, again, strict=False):
        assert len(some) == 5
        np.testing.assert_allclose(some.logprob, same.logprob, atol=1e-5)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        places = MaskedScorer(load(bert, positions=5)).chosen(tuple(ids))
        np.testing.assert_allclose(some.logprob, all_places.logprob[list(places)], atol=1e-5)
        assert some.tokens.tolist() == [ids[place] for place in places]
        assert some.n_chars == len(text)
        assert list(some.ends) == [all_places.ends[place] for place in places]
    assert "positions=5: by the draw of the tokens a text's mean log-probability has a standard error of" in caplog.text


def test_within_a_word_what_comes_after_the_token_is_masked_too(bert, texts, scoring):
    (answer,) = scoring.ask(load(bert, pll="within_word_l2r"), plain(texts[:1]))
    expected = oracle(bert, texts[0], words=True)
    np.testing.assert_allclose(figures(answer), expected, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(expected[:, 0], oracle(bert, texts[0])[:, 0])


def test_as_published_is_one_loss_over_all_tokens_with_some_of_them_out_of_sight(bert, texts, scoring):
    (answer,) = scoring.ask(load(bert, pll="as_published"), plain(texts[:1]))
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModelForMaskedLM.from_pretrained(bert).eval()
    ids = tokenizer(texts[0], return_tensors="pt")["input_ids"]
    hidden = torch.rand(ids.shape, generator=torch.Generator().manual_seed(42)) < 0.15
    hidden[:, [0, -1]] = False
    with torch.no_grad():
        logits = model(ids.masked_fill(hidden, tokenizer.mask_token_id), attention_mask=(~hidden).long()).logits
    loss = torch.nn.functional.cross_entropy(logits[0, 1:-1].double(), ids[0, 1:-1])
    assert answer.logprob.mean() == pytest.approx(-float(loss), rel=1e-5)


def test_a_text_s_sum_is_of_its_parts_where_it_is_longer_than_the_model(bert, texts):
    text = texts[1] * 4
    lm = load(bert)
    (whole, short) = lm.loglikelihood_rolling([SimpleNamespace(args=(text,)), SimpleNamespace(args=(texts[0],))])
    assert short == pytest.approx(oracle(bert, texts[0])[:, 0].sum(), rel=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(MaskedScorer(lm).parts(text)) == 2
    assert whole < oracle(bert, text)[:, 0].sum()
    (estimate,) = load(bert, positions=12).loglikelihood_rolling([SimpleNamespace(args=(text,))])
    assert estimate == pytest.approx(whole, rel=0.4)
    assert len(ids) > 62


def test_no_text_stands_after_another_and_the_reference_is_a_masked_model_too(bert, masked, texts, scoring, caplog):
    other = masked("distilbert", seed=1)
    spec = f'{{"pretrained": "{other}", "dtype": "float32"}}'
    requests = [ViewRequest(texts[0], TEXT), ViewRequest(texts[0], AFTER_SHOTS, (texts[1],), attack="recall")]
    requests.append(ViewRequest(texts[0], REFERENCE, reference=spec))
    own, after, under = scoring.ask(load(bert, positions=4), requests)
    assert isinstance(after, Unscored)
    assert after.whole_task
    assert "the attack 'recall' has no figures of texts after others" in caplog.text
    assert "pseudo-log-likelihood (positions: 4): not to be compared with those of causal models" in caplog.text
    assert under.tokens.tolist() == own.tokens.tolist()
    np.testing.assert_allclose(under.logprob, scoring.ask(load(other, positions=4), requests[:1])[0].logprob, atol=1e-5)


def test_what_is_no_masked_model_or_no_value_is_refused(bert, tiny, texts, scoring, tmp_path):
    for wrong in ({"positions": 1}, {"positions": "half"}, {"pll": "l2r"}, {"pll": "as_published", "positions": 4}):
        with pytest.raises(InputError, match="--model_args"):
            load(bert, **wrong)
    with pytest.raises(NotImplementedError, match="--model hf-mlm runs tasks of whole texts alone"):
        load(bert).loglikelihood([])
    with pytest.raises(InputError, match="is no masked language model: --model hf is for causal models"):
        load(tiny("llama"))
    headless = tmp_path / "headless"
    AutoModel.from_pretrained(bert).save_pretrained(headless)
    with pytest.raises(InputError, match=r"not a whole masked language model: it has no weights for cls\.pred.* more"):
        load(headless, tokenizer=str(bert))
    lm = load(bert)
    lm.tokenizer.mask_token = None
    (answer,) = scoring.ask(lm, plain(texts[:1]))
    assert "no mask token" in answer.reason


def test_the_cache_tells_ways_and_places_apart(bert, texts, scoring, tmp_path):
    from lm_eval.api.model import CachingLM

    path = str(tmp_path / "cache.db")
    for model_args in ({}, {"positions": 5}, {"pll": "within_word_l2r"}):
        fresh = scoring.ask(load(bert, **model_args), plain(texts[:2]))
        for _ in range(2):
            kept = scoring.ask(CachingLM(load(bert, **model_args), path), plain(texts[:2]))
            for a, b in zip(fresh, kept, strict=True):
                np.testing.assert_allclose(a.logprob, b.logprob, atol=1e-6)


def test_every_way_of_scoring_is_another_model_to_the_cache(bert):
    ways = ({}, {"positions": 5}, {"positions": 6}, {"pll": "within_word_l2r"}, {"pll": "as_published"})
    assert len({MaskedScorer(load(bert, **model_args)).identity() for model_args in ways}) == len(ways)


@pytest.mark.slow
def test_the_harness_runs_it_by_its_name(bert, texts, tmp_path, task_manager):
    import json

    import lm_eval

    for name, some in (("members", texts[:20]), ("nonmembers", texts[20:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in some))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")}
    results = lm_eval.simple_evaluate(
        "hf-mlm", {"pretrained": str(bert), "device": "cpu"}, tasks=["mia_loss_files", "mia_recall_files"],
        metadata={"mia": files}, batch_size=32, bootstrap_iters=0,
    )  # fmt: skip
    assert 0 <= results["results"]["mia_loss_files"]["auroc,none"] <= 1
    about = results["configs"]["mia_loss_files"]["metadata"]["midistill"]
    assert about["likelihood"] == "pseudo-log-likelihood (positions: all)"
    assert "auroc,none" not in results["results"].get("mia_recall_files", {})
