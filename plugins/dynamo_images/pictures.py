"""Picture files: of the formats named here and no other, whatever their names say, and never silently changed.

Pillow goes by the content, and for some formats it starts other programs (Ghostscript for EPS).
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import one_line, read_bytes

#: What is read, as Pillow names it, and how the names of such files end.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = {".bmp", ".gif", ".jpg", ".jpeg", ".jp2", ".j2k", ".png", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff"}
SUFFIXES |= {".webp"}

#: The most pixels of a picture: 8,192 x 8,192; and the most bytes of its file.
MOST_PIXELS, _MOST_BYTES = 2**26, 2**29

#: Pillow's kinds of pixels that have 8 bits a channel, or fewer.
_EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def read_picture(file: Path, size: int | None = None) -> Tensor:
    """A picture as a colour image ``[3, H, W]`` uint8, turned as its EXIF orientation says.

    Args:
        file: of one of :data:`FORMATS`; a GIF or TIFF with one picture.
        size: scale the shorter side to so many pixels, and cut the middle out; None leaves it as it is.

    Raises:
        DynamoError: it cannot be read, is of another format, has several pictures or too many pixels, or more than 8
        bits a channel, which cannot be made 8 without knowing their range.
    """
    content = read_bytes(file, most=_MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        why = _unfit(image, size)
        if why is None:
            image = _as_colours(ImageOps.exif_transpose(image))
    except Exception as error:  # a damaged picture can raise anything, one of absurd size a DecompressionBombError
        raise DynamoError(
            f"{file} cannot be read as an image ({type(error).__name__}: {one_line(error)}): repair it or take it away"
        ) from None
    if why is not None:
        raise DynamoError(f"{file} {why}")
    if size is not None:
        from torchvision.transforms import functional  # type: ignore[import-untyped]

        image = functional.center_crop(functional.resize(image, size), [size, size])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _unfit(image: Image.Image, size: int | None) -> str | None:
    """What keeps a picture, of which the header is read, from being an image of 8 bits; None where nothing does."""
    shorter, longer = sorted(image.size)
    if max(shorter * longer, (size or 0) ** 2 * longer / shorter) > MOST_PIXELS:  # as it is, or scaled
        return f"has {image.width:,} x {image.height:,} pixels, and {MOST_PIXELS:,} are the most: make it smaller"
    if image.mode not in _EIGHT_BITS:
        return (
            f"has pixels of more than 8 bits (Pillow's mode {image.mode}), whose range is not known: save it with 8, "
            "scaled from the darkest to the brightest value of all your pictures"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("JPEG", "MPO"):  # a camera's JPEG may have a preview behind the picture
        return f"has {frames} pictures: keep one in a file"
    return None


def _as_colours(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
