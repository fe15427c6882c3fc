"""The parts of a report, as records: what was found, and what is missing with the line that gets it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Missing:
    """Something that a report could show and that is not there."""

    what: str
    """What is not there, as a short noun."""
    why: str
    """What a reader would learn from it: one or two sentences."""
    code: str = ""
    """The lines of Python that get it; empty where no code can."""


@dataclass(frozen=True)
class Picture:
    """A picture that stands in the file itself."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Kind:
    """A kind of map that can lie over the slide."""

    name: str
    label: str
    says: str
    """What its colours mean, in a sentence."""
    of_gene: bool = True
    """Whether there is one for each gene."""


MEASURED = Kind("measured", "Measured", "The colours show what was sequenced in each spot.")
PREDICTED = Kind("predicted", "Predicted", "The colours show what the model predicts from the picture alone.")
LOWER = Kind(
    "lower",
    "Lower bound",
    "The colours show the lowest value to expect in each spot. What lies beyond the scale has its end colour.",
)
UPPER = Kind(
    "upper",
    "Upper bound",
    "The colours show the highest value to expect in each spot. What lies beyond the scale has its end colour.",
)
RELIABILITY = Kind(
    "reliability",
    "Unlike the reference",
    "Bright discs mark spots that look unlike the tissue that the model learned from.",
    of_gene=False,
)
KINDS = (PREDICTED, MEASURED, LOWER, UPPER, RELIABILITY)


@dataclass(frozen=True)
class Map:
    """A transparent picture of coloured spots, to be laid over the slide."""

    slide: int
    kind: str
    picture: Picture
    gene: int | None = None


@dataclass(frozen=True)
class Scale:
    """The ends of the colours of a gene, which all its maps share."""

    low: str
    high: str


@dataclass(frozen=True)
class Finding:
    """A doubt about image, scale or places, with its remedy."""

    found: str
    remedy: str


@dataclass(frozen=True)
class Slide:
    """A section of the query, and what is known of it."""

    name: str
    n_spots: int
    ground: Picture | None = None
    verdict: str = ""
    """The verdict on how it looks, as `tl.impute` words it; empty where there is none."""
    meaning: str = ""
    grade: str = ""
    """``"good"``, ``"fair"`` or ``"bad"``; empty where nothing is known."""
    unlike: str = ""
    """How many of its spots look unlike the reference."""
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values of what is known of image and scale."""
    findings: tuple[Finding, ...] = ()
    alignment: str = ""
    alignment_grade: str = ""
    checked: bool = False
    """Whether `pp.crops` has looked for doubts."""

    @property
    def is_other_tissue(self) -> bool:
        """Whether it looks so far from the reference that no score found there speaks of it."""
        return self.grade == "bad"

    @property
    def image_grade(self) -> str:
        """The grade of image and scale: where the slide looks far off, finding no fault in them clears them of none."""
        if self.findings:
            return "bad"
        if not self.checked:
            return "unknown"
        return "fair" if self.is_other_tissue else "good"


@dataclass(frozen=True)
class Standing:
    """Whether a gene can be read off the picture, as the table of genes says it."""

    label: str
    grade: str = ""
    """As that of a slide, or ``"unknown"``; empty where nothing is claimed."""


READABLE = Standing("✓ yes", "good")
NOT_SHOWN = Standing("! not shown to be", "fair")
NOT_HERE = Standing("✕ not here", "bad")
WORSE_HERE = Standing("✕ worse here", "bad")
"""Both were measured on the slides that are shown, which outweighs what was expected."""
NOT_KNOWN_HERE = Standing("? not known here", "unknown")
"""On the list, which was made on other tissue."""
NOT_TESTED = Standing("not tested")


@dataclass(frozen=True)
class Gene:
    """What is known of how well a gene is predicted."""

    name: str
    predictable: bool | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    reached: float | None = None
    """Its Pearson correlation on the slides of this report."""
    ceiling: float | None = None
    standing: Standing = NOT_TESTED

    @property
    def is_wrong_here(self) -> bool:
        """Whether the slides show that it is not predicted as expected: at or below 0, or below the expected range."""
        return self.is_unrelated_here or self.is_worse_here

    @property
    def is_unrelated_here(self) -> bool:
        """Whether its map goes against the measured one, or has nothing to do with it."""
        return self.reached is not None and self.reached <= 0

    @property
    def is_worse_here(self) -> bool:
        """Whether its map follows the measured one less than was expected, in the two decimals that a reader sees."""
        if self.reached is None or self.low is None or self.is_unrelated_here:
            return False
        return round(self.reached, 2) < round(self.low, 2)


@dataclass(frozen=True)
class Crop:
    """The crop of a spot, with its expression of the chosen genes."""

    picture: Picture
    title: str
    detail: str
    values: tuple[tuple[str, str, str], ...]
    """Gene, value, and the measured value beside a predicted one; empty where there is none."""


@dataclass(frozen=True)
class Origin:
    """Where the values of a spot come from."""

    spot: str
    why: str
    """Why this spot was chosen."""
    made_of: str
    own: Crop
    neighbors: tuple[Crop, ...]


@dataclass(frozen=True)
class Model:
    """What the model is."""

    facts: tuple[tuple[str, str], ...] = ()
    says: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Content:
    """All that a report says, ready to be put into the page."""

    title: str
    date: str
    version: str
    units: str
    note: str
    brief: tuple[tuple[str, str, str], ...]
    """Grade, heading and sentence of each point of the summary."""
    slides: tuple[Slide, ...]
    genes: tuple[Gene, ...]
    why_genes: str
    best_genes: tuple[Gene, ...]
    scope: str
    kinds: tuple[Kind, ...]
    maps: tuple[Map, ...]
    scales: tuple[Scale, ...]
    colour_bar: str
    bounds: str
    """What the bounds promise; empty where there are none."""
    figures: tuple[Picture, ...]
    """The maps side by side, a figure for each slide."""
    predictable: Picture | None
    calibration: Picture | None
    origins: tuple[Origin, ...]
    model: Model
    limits: tuple[tuple[str, str], ...]
    missing: tuple[Missing, ...]
    citations: tuple[str, ...]
    steps: tuple[tuple[str, str], ...] = field(default=())
    """Colour and label of each step of the reliability."""
