"""Pictures that a data set holds as JPEG or PNG."""

import io
from collections.abc import Sequence

from roboalign.sources.errors import DamagedError
from roboalign.store.media import MediaError, open_picture, upright_picture, upright_size
from roboalign.types import UInt8


def decode(data: bytes | memoryview, size: Sequence[int], step: int) -> UInt8:
    """(H, W, 3) of a JPEG or PNG, upright; `size` is the wanted height and width, -1 if any will do.

    Raises DamagedError, which names the step, if it is not a such picture.
    """
    try:
        with open_picture(io.BytesIO(data), ("JPEG", "PNG")) as image:
            high, wide = upright_size(image)
            # Before its pixels are decoded: a false size must not ask for memory.
            if any(wanted not in (-1, given) for wanted, given in zip(size, (high, wide), strict=True)):
                raise DamagedError(f"its picture at step {step} is {high} x {wide} pixels, not {size[0]} x {size[1]}")
            return upright_picture(image)
    except MediaError as error:
        raise DamagedError(f"its picture at step {step} {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DamagedError(f"its picture at step {step} cannot be decoded: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    # Pillow shows the address of the buffer, which differs from run to run.
    return "it is not a JPEG or PNG" if "cannot identify image file" in str(error) else str(error)
