"""Images with labels or without: where they come from, what is drawn at random, and batches of them."""

from pcgraph.datasets.augment import Augment
from pcgraph.datasets.batches import Batch, batch_count, batches
from pcgraph.datasets.classes import read_classes
from pcgraph.datasets.data import ImageData, Item, augmented, choice, noisy, split, subset
from pcgraph.datasets.given import Images, Loaded, Samples, given_images
from pcgraph.datasets.identity import data_digest, image_keys
from pcgraph.datasets.imagenet import Corrupted, corruption_sets
from pcgraph.datasets.preprocess import preprocess_for
from pcgraph.datasets.references import open_data
from pcgraph.datasets.shipped import Dataset, digits

__all__ = [
    "Augment",
    "Batch",
    "Corrupted",
    "Dataset",
    "ImageData",
    "Images",
    "Item",
    "Loaded",
    "Samples",
    "augmented",
    "batch_count",
    "batches",
    "choice",
    "corruption_sets",
    "data_digest",
    "digits",
    "given_images",
    "image_keys",
    "noisy",
    "open_data",
    "preprocess_for",
    "read_classes",
    "split",
    "subset",
]
