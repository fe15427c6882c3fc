"""The page "Encoders" names networks that exist: its own lines are run, on a device that holds no weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bleep_sc.models.encoders.registry import encoder_named

PAGE = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
HEAD, *SECTIONS = PAGE.split("\n### ")
NEEDS_A_HUB = ("transformers", "hf_hub_download")


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def table() -> dict[str, dict[str, str]]:
    """The rows of the table by name."""
    (text,) = re.findall(r"^\| name \|.*?(?=\n\n)", PAGE, re.M | re.S)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:]}


CODE = {
    name: block for name, (block, *_) in ((text.split("\n")[0], blocks(text) or [""]) for text in SECTIONS) if block
}
SHARED = next(block for block in blocks(HEAD) if "def prepare" in block)
OF_TIMM = [name for name, block in CODE.items() if "timm.create_model" in block]


def test_each_row_has_a_block_and_each_block_a_row() -> None:
    assert set(CODE) == set(table())
    untested = {name for name, block in CODE.items() if any(word in block for word in NEEDS_A_HUB)}
    assert untested == {"Phikon-v2", "Midnight-12k", "CTransPath"}  # which the page says
    assert set(OF_TIMM) == set(table()) - untested - {"ResNet-50"}


def _run(block: str, space: dict[str, Any] | None = None) -> dict[str, Any]:
    space = {} if space is None else space
    exec(block, space)  # noqa: S102 - a block of our own page
    return space


def test_images_are_resized_and_normalised() -> None:
    space = _run(SHARED)
    images = torch.tensor([0.2, 0.5, 0.8])[None, :, None, None].expand(2, 3, 112, 112)
    prepared = space["prepare"](*space["IMAGENET"])(images)
    mean, std = (torch.tensor(values) for values in space["IMAGENET"])
    assert prepared.shape == (2, 3, 224, 224)
    torch.testing.assert_close(prepared[0, :, 100, 100], (torch.tensor([0.2, 0.5, 0.8]) - mean) / std)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TIMM)
def test_the_network_has_the_width_that_the_table_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    row, create, asked = table()[name], timm.create_model, []

    def without_weights(model: str, *, pretrained: bool = False, **arguments: Any) -> torch.nn.Module:
        """What the hub's own record adds to the arguments is which architecture they are of."""
        asked.append((re.sub("^hf[-_]hub:", "", model), pretrained))
        return create(row["timm architecture"].split("`")[1], **arguments)

    monkeypatch.setattr(timm, "create_model", without_weights)
    space = _run(SHARED)
    space["prepare"] = lambda mean, std: torch.nn.Upsample((224, 224))  # the other test's; it reads values
    with torch.device("meta"), torch.no_grad():
        features = _run(CODE[name], space)["encoder"](torch.rand(2, 3, 112, 112))
    assert asked == [(row["source"].split("huggingface.co/")[1].rstrip(")"), True)]
    assert features.shape == (2, int(row["width"]))
    tokens = 261  # 16 × 16 patches, the class and four registers
    if "tokens[:, 5:]" in CODE[name]:
        with torch.device("meta"), torch.no_grad():
            assert space["network"](torch.rand(1, 3, 224, 224)).shape[:2] == (1, tokens)


def test_resnet50_has_the_width_that_the_table_says() -> None:
    assert encoder_named(_run(CODE["ResNet-50"])["encoder"]).width == int(table()["ResNet-50"]["width"])


def test_published_figures_are_marked_so() -> None:
    published = {name: row["published"] for name, row in table().items()}
    assert "as its authors published it" in HEAD
    assert "We have not measured it." in HEAD
    assert {name for name, figure in published.items() if figure == "–"} == {"UNI2-h", "Phikon-v2", "Midnight-12k"}
