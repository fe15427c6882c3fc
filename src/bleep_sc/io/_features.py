"""The record of features that encoders made of crops: how it is stored beside them, in `uns` under the same name."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bleep_sc._untrusted import parse_json

if TYPE_CHECKING:
    from bleep_sc.methods.inputs import CropScale, EncoderRecord

_CONFIG = "config"
_MOST_TEXT = 2**20
_ENCODERS, _SCALE = "encoders", "scale"


@dataclass(frozen=True)
class FeatureRecord:
    """The encoders that made the features of a spot, side by side, and the crops that they read."""

    encoders: "tuple[EncoderRecord, ...]"
    scale: "CropScale"

    def to_uns(self) -> dict[str, str]:
        """Turn the record into what AnnData can write."""
        record = {_ENCODERS: [encoder.to_json() for encoder in self.encoders], _SCALE: asdict(self.scale)}
        return {_CONFIG: json.dumps(record, indent=1)}


def features_from_uns(uns: Mapping[str, Any], key: str, *, name: str) -> FeatureRecord | None:
    """Read the record of the features at a key; None where there is none, as of features that were made elsewhere.

    Raises
    ------
    ValueError
        The record is damaged.
    """
    entry = uns.get(key)
    if not isinstance(entry, Mapping) or _CONFIG not in entry:
        return None

    from bleep_sc.io._schema import check_encoders, check_scale
    from bleep_sc.methods.inputs import CropScale, EncoderRecord

    where = f"`{name}.uns[{key!r}]`"
    text = entry[_CONFIG]
    try:
        record = parse_json(text if isinstance(text, str) else str(np.asarray(text)), most=_MOST_TEXT)
        check_encoders(record[_ENCODERS], where=where)
        if not record[_ENCODERS]:
            raise ValueError("it names no encoder")
        check_scale(record[_SCALE], record[_ENCODERS], where=where)
    except (ValueError, KeyError, TypeError) as err:
        msg = (
            f"{where} does not say what made the features of `obsm[{key!r}]` ({err}), so it is damaged. Make them "
            f"again with `bleep_sc.tl.encode({name}, encoder=..., key_added={key!r})`."
        )
        raise ValueError(msg) from err
    return FeatureRecord(tuple(map(EncoderRecord.from_json, record[_ENCODERS])), CropScale(**record[_SCALE]))
