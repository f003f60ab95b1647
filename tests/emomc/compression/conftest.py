"""Networks that several tests of compression run."""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional


class Twice(nn.Module):
    """Calls one layer on maps of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(functional.max_pool2d(self.layer(images), 2))


@pytest.fixture
def called_twice() -> nn.Module:
    return Twice()
