"""The training of BLEEP's released code, written from its description, with only what keeps it from running mended.

What makes it differ from `bleep_sc.tl.fit(preset="paper")`: each item is looked up and transformed by itself; the
images are BGR; the batches, and the spots that fill no batch, are the same in every epoch; validation spots are
augmented too, and those that fill no batch are left out.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import functional as tf

from bleep_sc.models.encoders.networks import build_network

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Items(Dataset):
    """One spot at a time: place by name, a slice of the whole image, flips and a turn by PIL, then a tensor."""

    def __init__(
        self, images: dict[str, np.ndarray], places: pd.DataFrame, expression: np.ndarray, size: int = 224
    ) -> None:
        self._images, self._places, self._expression, self._size = images, places, expression, size

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        place = self._places.loc[self._places.index[number]]
        x, y, half = round(place["x"]), round(place["y"]), self._size // 2
        patch = self._images[place["section"]][y - half : y + half, x - half : x + half]
        picture = tf.to_pil_image(np.ascontiguousarray(patch))
        if torch.rand(()) < 0.5:
            picture = tf.hflip(picture)
        if torch.rand(()) < 0.5:
            picture = tf.vflip(picture)
        picture = tf.rotate(picture, (180, 90, 0, -90)[int(torch.randint(4, ()))])
        return tf.normalize(tf.to_tensor(picture), _MEAN, _STD), torch.from_numpy(self._expression[number])


class Head(nn.Module):
    """As released."""

    def __init__(self, n_in: int, dim: int = 256) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(n_in, dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.first(x)
        return self.norm(self.dropout(self.second(nn.functional.gelu(projected))) + projected)


class Design(nn.Module):
    """Image network and two heads, float32, in PyTorch's own memory order."""

    def __init__(self, encoder: str, n_genes: int, size: int) -> None:
        super().__init__()
        network = build_network(encoder, image_size=size)
        self.network = network.network.to(memory_format=torch.contiguous_format)
        self.image_head, self.spot_head = Head(network.n_features), Head(n_genes)

    def embed_image(self, images: Tensor) -> Tensor:
        return self.image_head(self.network(images))

    def forward(self, images: Tensor, expression: Tensor) -> Tensor:
        image, spot = self.embed_image(images), self.spot_head(expression)
        logits = spot @ image.T
        targets = ((image @ image.T + spot @ spot.T) / 2).softmax(dim=-1)
        by_spot = (-targets * logits.log_softmax(dim=-1)).sum(1)
        by_image = (-targets.T * logits.T.log_softmax(dim=-1)).sum(1)
        return ((by_spot + by_image) / 2).mean()


def train(items: Items, n_genes: int, *, encoder: str, epochs: int, seed: int, batch: int, size: int = 224) -> Design:
    """Train for some epochs, and keep the best by validation loss."""
    torch.manual_seed(seed)
    order = np.random.default_rng(seed).permutation(len(items))
    n_training = round(0.8 * len(items))
    model = Design(encoder, n_genes, size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    parts = [
        DataLoader(Subset(items, rows.tolist()), batch_size=batch, drop_last=True)
        for rows in (order[:n_training], order[n_training:])
    ]
    best, kept = np.inf, {}
    for epoch in range(epochs):
        model.train()
        losses = []
        for images, expression in parts[0]:
            loss = model(images, expression)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            validation = float(np.mean([model(images, expression).item() for images, expression in parts[1]]))
        if validation < best:
            best, kept = validation, {name: value.clone() for name, value in model.state_dict().items()}
        print(f"  epoch {epoch + 1}: training loss {np.mean(losses):.3f}, validation loss {validation:.3f}", flush=True)
    model.load_state_dict(kept)
    return model.eval()


def embed_crops(model: Design, crops: np.ndarray, *, at_once: int = 64) -> np.ndarray:
    """Embed BGR crops, unturned."""
    out = []
    with torch.no_grad():
        for start in range(0, len(crops), at_once):
            images = torch.from_numpy(crops[start : start + at_once]).permute(0, 3, 1, 2).float() / 255
            out.append(model.embed_image(tf.normalize(images, _MEAN, _STD)).numpy())
    return np.concatenate(out)
