from __future__ import annotations

import pytest
import torch

from midistill_tasks.distill.student import make_student as make
from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import load_teacher


@pytest.fixture
def make_student(tiny):
    return lambda recipe: make(
        recipe.student, recipe.interventions.chosen, recipe.seed, load_teacher(recipe.teacher.model), tiny.tokenizer()
    )


def test_every_nth_layer_keeps_the_teachers_weights(make_student, recipe_of):
    recipe = recipe_of(student__reinitialise=False)
    teacher, student = load_teacher(recipe.teacher.model), make_student(recipe)
    assert student.config.num_hidden_layers == 1
    theirs = teacher.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in student.state_dict().items())


def test_layers_of_another_width_cannot_be_copied_and_the_recipe_says_it(recipe_of):
    with pytest.raises(InputError, match=r"set student\.reinitialise: true, or leave out this control"):
        recipe_of(student__reinitialise=False, interventions={"same_params": 8})


def test_layers_are_renumbered(tiny, make_student, tmp_path, recipe_of):
    tiny.model(layers=5).save_pretrained(tmp_path / "deep")
    recipe = recipe_of(teacher__model=str(tmp_path / "deep"), student__reinitialise=False)
    teacher, student = load_teacher(recipe.teacher.model), make_student(recipe)
    for ours, theirs in ((0, 0), (1, 2), (2, 4)):
        name = "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight"
        assert torch.equal(student.state_dict()[name.format(ours)], teacher.state_dict()[name.format(theirs)])


def test_reinitialised_weights_follow_the_seed_alone(make_student, recipe_of):
    one, same, other = (make_student(recipe_of(seed=seed)).state_dict() for seed in (1, 1, 2))
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one[name], other[name])


def test_a_student_from_a_config_and_from_a_checkpoint(tiny, make_student, tmp_path, recipe_of):
    inline = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2}
    student = make_student(recipe_of(student={"config": inline}))
    assert (student.config.model_type, student.config.vocab_size) == ("gpt2", 62)
    saved = tiny.model("gpt2", seed=5)
    saved.save_pretrained(tmp_path / "saved")
    loaded = make_student(recipe_of(student={"checkpoint": str(tmp_path / "saved"), "reinitialise": False}))
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    fresh = make_student(recipe_of(student={"config": str(tmp_path / "saved")}))
    name = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(fresh.state_dict()[name], saved.state_dict()[name])


def test_same_params_is_a_plain_student_as_large_as_the_one_with_the_bottleneck(make_student, recipe_of):
    bottleneck = make_student(recipe_of(interventions={"bottleneck": 4}))
    control = make_student(recipe_of(interventions={"same_params": 4}))
    assert control.config.model_type == "gpt_neox"
    sizes = [sum(p.numel() for p in model.parameters()) for model in (bottleneck, control)]
    assert abs(sizes[0] - sizes[1]) <= 17  # half of what one more FFN unit weighs: 2H + 1 = 33


def test_the_red_list_takes_tokens_words_and_ids(make_student, recipe_of):
    student = make_student(recipe_of(interventions={"red_list": ["w3", 7], "temperature": 2.0})).eval()
    logits = student(torch.tensor([[4, 5]])).logits
    assert logits.isneginf().nonzero()[:, -1].unique().tolist() == [5, 7]
    with pytest.raises(InputError, match="'w1 w2' is 2 tokens"):
        make_student(recipe_of(interventions={"red_list": ["w1 w2"]}))


def test_a_config_of_an_unknown_architecture_is_named_by_its_key(make_student, recipe_of):
    with pytest.raises(InputError, match=r"student\.config: .*gpt_meox"):
        make_student(recipe_of(student={"config": {"model_type": "gpt_meox"}}))
