"""Models that come with pcgraph: small enough to train in a minute."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

OWN = "pcgraph:"
"""What a reference to one of them begins with."""
DIGITS_INPUT = (1, 28, 28)


class DigitsCNN(nn.Module):
    """Three convolutions, each with a ReLU and then a maximum over 2 x 2, and a linear layer.

    The second has few channels. What it keeps of an image is little more than what makes a digit, so
    feedback that reconstructs the first layer from it can hardly reconstruct noise.

    Args:
        num_classes: Length of the output.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(16, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv3, self.relu3, self.pool3 = nn.Conv2d(6, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.flatten, self.fc = nn.Flatten(), nn.Linear(32 * 3 * 3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (batch, classes) of images (batch, 1, 28, 28)."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.pool3(self.relu3(self.conv3(x)))
        scores: Tensor = self.fc(self.flatten(x))
        return scores


BUILTIN: dict[str, Callable[..., nn.Module]] = {"digits_cnn": DigitsCNN}
"""By name, as in `pcgraph:NAME`."""
