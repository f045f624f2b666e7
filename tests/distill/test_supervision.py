from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from midistill_tasks.distill.supervision import text_figures
from midistill_tasks.metrics import Scored


def test_the_figures_of_a_text_agree_with_plain_loops(tiny):
    teacher, student = tiny.model(seed=1), tiny.model(layers=1, seed=2)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(3)
    ids = [[2, 3, 4, 5, 6, 7, 8], [9, 2, 9]]
    items = [Scored(1, 0.0, str(number), str(number)) for number in range(2)]
    for row, found in zip(ids, text_figures(teacher, student, items, ids), strict=True):
        hits, losses, teacher_p, student_p, entropy = 0, [], 0.0, 0.0, 0.0
        p, q = (
            model.eval()(torch.tensor([row])).logits[0].detach().double().softmax(-1) for model in (teacher, student)
        )
        for t in range(len(row) - 1):
            losses.append(-math.log(p[t, row[t + 1]]))
            if int(p[t].argmax()) == row[t + 1]:
                hits += 1
                teacher_p += float(p[t, row[t + 1]])
                student_p += float(q[t, row[t + 1]])
                entropy -= float((q[t] * q[t].log()).sum())
        assert (found.tokens, found.hits) == (len(row) - 1, hits)
        assert found.loss == pytest.approx(float(np.mean(losses)), rel=1e-4)
        assert [found.teacher_p, found.student_p, found.student_entropy] == pytest.approx(
            [teacher_p, student_p, entropy], rel=1e-4
        )
