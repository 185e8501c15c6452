"""Networks made here, for pictures of any size; the rows of core.catalog.networks name them “scratch:<class in small letters>”.

Each is made as Network(channels, side, classes), and maps (N, channels, side, side) to (N, classes) logits.
"""

from __future__ import annotations

from torch import Tensor, nn

from core.catalog.networks import MAP_SIDE


class Linear(nn.Module):
    """Softmax regression on raw pixels."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(x))
        return logits


class ConvNet(nn.Module):
    """Two 5×5 convolutions and 1,000 units (LeCun et al. 1998, in the sizes of the MNIST tutorial)."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.shrink = shrink(side // 4)
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(64 * min(side // 4, MAP_SIDE) ** 2, 1000)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(1000, classes)

    def forward(self, x: Tensor) -> Tensor:
        # Pooling before the ReLU is the same function with a quarter of its work.
        x = self.relu(self.pool(self.conv1(x)))  # (N, 32, S/2, S/2)
        x = self.relu(self.pool(self.conv2(x)))  # (N, 64, S/4, S/4)
        x = self.relu(self.dense(self.flatten(self.shrink(x))))
        logits: Tensor = self.head(self.dropout(x))
        return logits


class CNN3(nn.Module):
    """Three 3×3 convolution blocks with dropout (the car, frog and lizard tutorial)."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.1)
        self.pool = nn.MaxPool2d(2)
        self.shrink = shrink(side // 8)
        self.flatten = nn.Flatten()
        self.dense1 = nn.Linear(64 * min(side // 8, MAP_SIDE) ** 2, 1000)
        self.dense2 = nn.Linear(1000, 96)
        self.head = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = self.pool(self.dropout(self.relu(conv(x))))
        x = self.relu(self.dense1(self.flatten(self.shrink(x))))  # from (N, 64, S/8, S/8)
        logits: Tensor = self.head(self.relu(self.dense2(x)))
        return logits


def shrink(side: int) -> nn.Module:
    return nn.AdaptiveAvgPool2d(MAP_SIDE) if side > MAP_SIDE else nn.Identity()
