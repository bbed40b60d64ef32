import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from .fingerprint import Fingerprint


@dataclass(frozen=True)
class OnnxDescription:
    """What an exported file says of itself: each field is an entry of the file's metadata, text or JSON.

    Args:
        plugin_version: of igoas_plugin, which wrote the file.
        input: type of the images, "uint8" or "float32".
        size: [height, width] of the images.
        mean, std: of the normalisation inside the file, three values each, of pixels in [0, 255].
        descriptor_width: D, values of a descriptor.
        opset: version of ONNX's operators.
        batch: how many images are described at once, TEST.IMS_PER_BATCH of the config.
        reading: {config key: value} of what is done to a picture before it is an image of that size.
        fingerprint: which descriptors its own can be compared with.
    """

    plugin_version: str
    input: str
    size: list
    mean: list
    std: list
    descriptor_width: int
    opset: int
    batch: int
    reading: dict
    fingerprint: Fingerprint

    def as_metadata(self) -> dict[str, str]:
        written = {str: str, Fingerprint: Fingerprint.as_json}
        return {each.name: written.get(each.type, json.dumps)(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "OnnxDescription":
        """Raises KeyError, ValueError or TypeError where the metadata are none of as_metadata()."""
        read = {str: str, Fingerprint: Fingerprint.from_json}
        return cls(**{each.name: read.get(each.type, json.loads)(metadata[each.name]) for each in fields(cls)})
