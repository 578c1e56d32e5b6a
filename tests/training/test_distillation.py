from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.models.registry import create
from secateur.pruners.errors import UsageError
from secateur.training.data import load_data
from secateur.training.fit import Teacher, find_regime, fit
from secateur.training.fit.objective import Distillation, Objective, criterion


class Says(nn.Module):
    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, x):
        return self.scores.expand(len(x), -1)


@pytest.mark.parametrize(("share", "temperature"), [(0, 4), (1.5, 4), (0.5, 0), (0.5, float("inf"))])
def test_shares_and_temperatures_out_of_range_are_refused(share, temperature):
    with pytest.raises(UsageError, match="the share must lie above 0 and up to 1, the temperature above 0"):
        Teacher(Says(0.0, 1.0), share, temperature)


def test_the_loss_by_hand():
    student, teacher = Says(0.0, 2.0), Says(3.0, 1.0)
    images, labels = torch.zeros(2, 1), torch.tensor([1, 0])
    found = Distillation(Objective(), Teacher(teacher, 0.25, 2.0))(student, images, labels)
    p, q = torch.tensor([1.5, 0.5]).softmax(0), torch.tensor([0.0, 1.0]).softmax(0)
    apart = (p * (p / q).log()).sum()
    cross = -torch.tensor([0.0, 2.0]).log_softmax(0).mean()
    assert found.item() == pytest.approx((0.75 * cross + 0.25 * 4 * apart).item())


def test_the_teacher_learns_nothing_and_runs_in_eval_mode():
    teacher = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9)).train()
    student = nn.Linear(4, 3)
    student.load_state_dict(teacher[0].state_dict())
    labels = torch.zeros(5, dtype=torch.long)
    loss = Distillation(Objective(), Teacher(teacher, 1.0))(student, torch.randn(5, 4), labels)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)  # with dropout the two would differ
    assert teacher.training
    assert all(p.grad is None for p in teacher.parameters())


def test_without_a_teacher_the_labels_decide():
    assert criterion(Objective(beta=0.1), None) == Objective(beta=0.1)


def test_a_student_comes_closer_to_its_teacher_than_labels_alone_bring_it():
    data = load_data("digits")
    torch.manual_seed(0)
    teacher = create("lenet5", num_classes=10, image_size=8)
    fit(teacher, data, find_regime("plain", "train").lasting(8), 8)
    images = next(iter(data.test.batches(256)))[0]
    with torch.no_grad():
        wanted = teacher.eval()(images).log_softmax(1)

    def apart(**how: Teacher) -> float:
        torch.manual_seed(1)
        student = create("lenet5", num_classes=10, image_size=8)
        fit(student, data, find_regime("plain", "train").lasting(3), 3, **how)
        with torch.no_grad():
            said = student.eval()(images).log_softmax(1)
        return nn.functional.kl_div(said, wanted, reduction="batchmean", log_target=True).item()

    assert apart(teacher=Teacher(teacher, 0.9)) < apart()
