"""What stands in this folder, made anew by the version that is installed: ``python make.py FOLDER``.

Run with midistill 0.1.0 (commit 82495d1) in its own environment. Everything happens in FOLDER with relative paths, so
that no path of a machine is written down; what the harness says of the machine is taken out at the end.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
WORDS = [f"w{number}" for number in range(60)]
MACHINE = ("pretty_env_info", "git_hash", "upper_git_hash", "start_time", "end_time", "total_evaluation_time_seconds")


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)
    data()
    teacher()
    students()
    results()
    user_yaml()
    study()
    tidy()


def run(*command: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], check=True, env=environment)


def lm_eval(model: str, tasks: str, mia: dict[str, Any], output: str) -> None:
    run("-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--tasks", tasks,
        "--device", "cpu", "--batch_size", "8", "--metadata", json.dumps({"mia": mia}), "--output_path", output,
        "--log_samples")  # fmt: skip


# ---------------------------------------------------------------------- texts and models


def data() -> None:
    """Texts of made-up words, for which the tokenizer of the students is made."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(5, 14))) for _ in range(48)]
    write_rows(Path("members.jsonl"), [{"text": text} for text in texts[:24]])
    write_rows(Path("nonmembers.jsonl"), [{"text": text} for text in texts[24:]])
    write_rows(Path("notes.jsonl"), [{"body": text, "seen": int(i < 24)} for i, text in enumerate(texts)])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def teacher() -> None:
    """A GPT-NeoX of two layers and width 16, with weights that are large enough for opinions."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(["<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_neox", vocab_size=64, max_position_embeddings=64, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained("teacher")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>"
    ).save_pretrained("teacher")


def students() -> None:
    """Two students, by `midistill distill`, and their logits on a fixed input."""
    interventions = {
        "bottleneck_nonorm": {"bottleneck": 4, "nonorm": True},
        "red_list_temperature": {"red_list": ["w3", 7], "temperature": 2.0, "nonorm": True, "foldable": True},
    }
    for name, chosen in interventions.items():
        recipe = {
            "output": f"students/{name}",
            "teacher": {"model": "teacher"},
            "student": {"every_nth_layer": 1},
            "data": {"members": "members.jsonl", "nonmembers": "nonmembers.jsonl", "max_length": 16},
            "interventions": chosen,
            "train": {"epochs": 2, "warmup_steps": 2, "save_every": 2, "audit_texts": 8, "learning_rate": 0.01},
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        run("-m", "midistill_tasks.cli", "distill", f"{name}.yaml")
        write_logits(Path("students") / name)


def write_logits(folder: Path) -> None:
    """Logits [2, 16, V] as hexadecimal floats: exact, without a pickle, and read by nothing but Python."""
    import torch
    from transformers import AutoModelForCausalLM

    from midistill_tasks.distill.architectures import register

    register()
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = (torch.arange(32).view(2, 16) * 7) % 62
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits.double()
    content = {"input_ids": ids.tolist(), "logits": [[[v.hex() for v in t] for t in text] for text in logits.tolist()]}
    (folder / "logits.json").write_text(json.dumps(content), encoding="utf-8")


# ---------------------------------------------------------------------- runs of the harness


def results() -> None:
    """All six attacks and held-out perplexity, on a model and on one that is half of it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    from midistill_tasks.splits.bios import biographies

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(biographies(200), trainer)
    for name, layers, seed in (("big", 2, 0), ("small", 1, 0), ("other", 1, 1)):
        torch.manual_seed(seed)
        sizes = {"n_embd": 16, "n_layer": layers, "n_head": 2, "n_positions": 512}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", vocab_size=400, **sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(10)
        model.save_pretrained(f"models/{name}")
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(f"models/{name}")
    mia = {"n": 8, "reference": {"pretrained": "models/other", "dtype": "float32"}}
    for name in ("big", "small"):
        lm_eval(f"models/{name}", "mia_bios,heldout_bios", mia, "results")
    run("-m", "midistill_tasks.cli", "report", "results", "--teacher", "big", "--output", "page")


def user_yaml() -> None:
    """A user's own split and own task, by YAML alone, on the first student."""
    shutil.copytree(HERE / "yaml", "yaml")
    for name in ("mia_notes", "mia_mink_notes"):
        lm_eval("students/bottleneck_nonorm", f"yaml/{name}.yaml", {}, f"figures/{name}")
        (written,) = Path("figures", name).rglob("results_*.json")
        rows = json.loads(written.read_text(encoding="utf-8"))["results"]
        scores = {}
        for path in sorted(Path("figures", name).rglob("samples_*.jsonl")):
            task = re.sub(r"^samples_|_\d{4}-.*$", "", path.name)
            documents = [json.loads(line)["doc"] for line in path.read_text(encoding="utf-8").splitlines()]
            scores[task] = {document["id"]: document["score"] for document in documents}
        record = {"results": rows, "scores": scores}
        Path("yaml", f"{name}.figures.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    shutil.rmtree("figures")


def study() -> None:
    """A finished study: a teacher, two students and the page."""
    shutil.copy(HERE / "study.yaml", "study.yaml")
    run("-m", "midistill_tasks.cli", "study", "study.yaml")
    plan = [sys.executable, "-m", "midistill_tasks.cli", "study", "study.yaml", "--dry-run"]
    Path("plan.txt").write_text(subprocess.run(plan, check=True, capture_output=True, text=True).stdout)


# ---------------------------------------------------------------------- without the machine


def tidy() -> None:
    """Only what the tests read, and no word of the machine."""
    for path in Path().rglob("results_*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content |= {name: "" for name in MACHINE if name in content}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        path.write_text(re.sub(r'"/[^"]*site-packages/', '"site-packages/', text), encoding="utf-8")
    for path in [*Path().rglob("checkpoints"), *Path().rglob("index.html"), Path("teacher"), Path("models")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
