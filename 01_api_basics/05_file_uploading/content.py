"""What a file is, told from its bytes: neither its name nor the client's Content-Type is asked."""

import re
import threading
from dataclasses import dataclass
from typing import IO

import filetype  # type: ignore[import-untyped]  # it has no types
from PIL import Image
from werkzeug.exceptions import UnprocessableEntity, UnsupportedMediaType

MAX_PIXELS = 25_000_000  # up to 300 MB while decoding, and a camera's 6000 by 4000 still fits
MAX_NAME = 100
HEAD_BYTES = 8192  # what filetype looks at


@dataclass(frozen=True)
class Kind:
    content_type: str
    extensions: tuple[str, ...]
    image_format: str | None  # Pillow's name for it


PNG = Kind("image/png", (".png",), "PNG")
KINDS = {
    "image/png": PNG,
    "image/apng": PNG,  # an animated PNG, which every reader of PNG can show
    "image/jpeg": Kind("image/jpeg", (".jpg", ".jpeg"), "JPEG"),
    "image/gif": Kind("image/gif", (".gif",), "GIF"),
    "image/webp": Kind("image/webp", (".webp",), "WEBP"),
    "application/pdf": Kind("application/pdf", (".pdf",), None),
}
one_at_a_time = threading.Lock()  # decoding is what takes memory: ten images at once would take ten times of it


def identify(file: IO[bytes]) -> Kind:
    """Return what kind of file this is. Raises UnsupportedMediaType, and UnprocessableEntity for a broken image."""
    file.seek(0)
    found = filetype.guess_mime(file.read(HEAD_BYTES))
    if found not in KINDS:
        raise UnsupportedMediaType("the content is none of PNG, JPEG, GIF, WebP and PDF")
    kind = KINDS[found]
    if kind.image_format:
        decode(file, kind.image_format)
    return kind


def decode(file: IO[bytes], image_format: str) -> None:
    """Decode the image (an animation's first frame). Raises UnprocessableEntity if that fails or takes too much.

    The header says how large it becomes, and `open` reads only that (of a WebP, all of it). Pillow itself warns from
    89 million pixels on and raises an error from 179 million.
    """
    file.seek(0)
    try:
        with one_at_a_time, Image.open(file, formats=[image_format]) as image:
            pixels = image.width * image.height
            if pixels <= MAX_PIXELS:
                image.load()
    except Exception as error:  # broken files raise whatever the decoder stumbled over
        raise UnprocessableEntity("the image is broken, or not all there") from error
    if pixels > MAX_PIXELS:
        raise UnprocessableEntity(f"the image has {pixels:,} pixels, more than {MAX_PIXELS:,}")


def shown_name(name: str, kind: Kind) -> str:
    """Make a name to save the file under from the client's: no path, nothing invisible, the content's extension.

    Without its extension a GIF called `page.html`, with HTML after the image, would be a page once it is saved.
    """
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(character for character in last if character.isprintable()).strip(" .")
    if not visible.lower().endswith(kind.extensions):
        visible += kind.extensions[0]
    stem, _, extension = visible.rpartition(".")
    return f"{stem[: MAX_NAME - len(extension) - 1] or 'file'}.{extension}"
