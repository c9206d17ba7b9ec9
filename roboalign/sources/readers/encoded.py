"""Decodes JPEG and PNG images of data sets."""

import io
from collections.abc import Sequence

from roboalign.sources.errors import DamagedError
from roboalign.store.media import MediaError, open_image, upright_image, upright_size
from roboalign.types import UInt8


def decode(data: bytes | memoryview, size: Sequence[int], step: int) -> UInt8:
    """Decode a JPEG or PNG to (H, W, 3), upright.

    Raises DamagedError, which names the step, if it is not such an image or has another size.

    Args:
        data: the encoded image.
        size: expected height and width; -1 for any.
        step: index of the step, for error messages.
    """
    try:
        with open_image(io.BytesIO(data), ("JPEG", "PNG")) as image:
            high, wide = upright_size(image)
            # Checked before the pixels are decoded, so that a wrong size cannot exhaust memory.
            if any(expected not in (-1, actual) for expected, actual in zip(size, (high, wide), strict=True)):
                raise DamagedError(f"its image at step {step} is {high} x {wide} pixels, not {size[0]} x {size[1]}")
            return upright_image(image)
    except MediaError as error:
        raise DamagedError(f"its image at step {step} {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DamagedError(f"its image at step {step} cannot be decoded: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    # Pillow's message contains the address of the buffer, which differs between runs.
    return "it is not a JPEG or PNG" if "cannot identify image file" in str(error) else str(error)
