"""Small classifiers of grey images that give logits and the features before them.

Tested in tests/training/test_image_networks.py.
"""

import torch
from torch import Tensor, nn

from service.training.example_sets import Values

KERNEL = 3


class ImageClassifier(nn.Module):
    """Images of shape (N, H, W) to logits (N, K) and the features (N, F) that the last layer reads.

    One mean and one deviation for all pixels: those of a single pixel at the border would be next to nothing.

    Parameters
    ----------
    images : ndarray of shape (N, H, W)
        Training rows, for mean and deviation.
    body : Module
        From images (N, 1, H, W) to features.
    features, outputs : int
        F and K.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, images: Values, body: nn.Module, *, features: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(images.mean())))
        self.register_buffer("scale", torch.tensor(float(images.std())))
        self.body = body
        self.head = nn.Linear(features, outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features."""
        features: Tensor = self.body(((images - self.mean) / self.scale).unsqueeze(1))
        return self.head(features), features


def convolutional(
    images: Values, outputs: int, *, channels: tuple[int, int] = (8, 16), features: int = 48, seed: int = 0
) -> ImageClassifier:
    """Two layers of convolution with ReLU, each halved by maxima, and a hidden layer.

    Parameters
    ----------
    images : ndarray of shape (N, H, W)
        Training rows; H and W are multiples of four.
    outputs : int
    channels : tuple of (int, int)
    features : int
        Width of the hidden layer.
    seed : int
        Of the initial weights.
    """
    first, second = channels
    cells = (images.shape[1] // 4) * (images.shape[2] // 4)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(
            *_convolution(1, first),
            *_convolution(first, second),
            nn.Flatten(),
            nn.Linear(second * cells, features),
            nn.ReLU(),
        )
        network = ImageClassifier(images, body, features=features, outputs=outputs)
        # Trains in two thirds of the time on a processor; torch's stubs do not know the argument.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network


def fully_connected(images: Values, outputs: int, *, features: int = 48, seed: int = 0) -> ImageClassifier:
    """One hidden layer on all pixels.

    Parameters
    ----------
    images : ndarray of shape (N, H, W)
        Training rows.
    outputs : int
    features : int
        Width of the hidden layer.
    seed : int
        Of the initial weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Flatten(), nn.Linear(images[0].size, features), nn.ReLU())
        return ImageClassifier(images, body, features=features, outputs=outputs)


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, KERNEL, padding=KERNEL // 2), nn.ReLU(), nn.MaxPool2d(2)
