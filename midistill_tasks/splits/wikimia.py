"""WikiMIA: Wikipedia events before 2017 against events from 2023, which the harness's own keys describe.

The paper's code takes any of the lengths, 128 by default; of the paper's four data sets it is length 64 here.
"""

from __future__ import annotations

from midistill_tasks.splits.base import Split

LENGTHS = (32, 64, 128, 256)
IN_THE_PAPER = 64


def _split(length: int) -> Split:
    in_paper = " (one of the paper's four)" if length == IN_THE_PAPER else ""
    return Split(
        name=f"wikimia_{length}",
        title=f"WikiMIA, {length} words on events before 2017 against from 2023, a shift in time{in_paper}",
        valid_for=(
            "models whose training data holds Wikipedia as of 2017 to 2022 and nothing from 2023 on (Pythia, GPT-NeoX,"
            " OPT, LLaMA 1), and only as far as the shift in time between the two sides allows"
        ),
        config={
            "dataset_path": "swj0419/WikiMIA",
            "test_split": f"WikiMIA_length{length}",
            "doc_to_text": "input",
            "doc_to_target": "label",
        },
        citation="""@inproceedings{shi2024detecting,
  title={Detecting Pretraining Data from Large Language Models},
  author={Shi, Weijia and Ajith, Anirudh and Xia, Mengzhou and Huang, Yangsibo and Liu, Daogao and Blevins, Terra
    and Chen, Danqi and Zettlemoyer, Luke},
  booktitle={ICLR},
  year={2024}
}""",
        paper=bool(in_paper),
    )


SPLITS = tuple(_split(length) for length in LENGTHS)
