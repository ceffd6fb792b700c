#!/usr/bin/env python3
"""Pictures whose corners tell how they were turned; the same bytes on every run.

python3 pictures.py DIR     writes them all
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import permutations
from pathlib import Path

from PIL import Image, ImageDraw

RED, GREEN, BLUE, YELLOW, WHITE = (200, 40, 40), (40, 170, 60), (40, 60, 200), (220, 200, 40), (255, 255, 255)
CORNERS = ("top left", "top right", "bottom left", "bottom right")
ORIENTATION = 0x0112
TOLERANCE = 30  # of 255, a channel: twice through a lossy encoder


@dataclass(frozen=True)
class Picture:
    """A file to upload, and what its thumbnails must look like."""

    key: str
    mime: str
    data: bytes
    sizes: dict[str, tuple[int, int]]
    corners: tuple[tuple[int, int, int], ...]
    centre: tuple[int, int, int] | None = None


def noise(size: tuple[int, int]) -> Image.Image:
    width, height = size
    return Image.frombytes("L", size, random.Random(2026).randbytes(width * height)).convert("RGB")


def gradients(size: tuple[int, int]) -> Image.Image:
    across = Image.linear_gradient("L").rotate(90)
    down = Image.linear_gradient("L")
    rings = Image.radial_gradient("L")
    return Image.merge("RGB", [band.resize(size) for band in (across, down, rings)])


def with_corners(image: Image.Image, colours: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """Paints an eighth of each side, in the order of CORNERS."""
    width, height = image.size
    patch = (width // 8, height // 8)
    places = [(0, 0), (width - patch[0], 0), (0, height - patch[1]), (width - patch[0], height - patch[1])]
    draw = ImageDraw.Draw(image)
    for (left, top), colour in zip(places, colours, strict=True):
        draw.rectangle((left, top, left + patch[0] - 1, top + patch[1] - 1), fill=colour)
    return image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photo() -> Picture:
    """12 megapixels from a camera held upright: stored lying down, to be turned clockwise by a quarter."""
    size = (4000, 3000)
    image = with_corners(Image.blend(gradients(size), noise(size), 0.2), (RED, GREEN, BLUE, YELLOW))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return Picture(
        key="photos/upright.jpg",
        mime="image/jpeg",
        data=encode(image, "JPEG", quality=88, exif=exif),
        sizes={"small": (192, 256), "large": (600, 800)},
        corners=(BLUE, RED, YELLOW, GREEN),
    )


def transparent() -> Picture:
    """Nothing but a red middle: the rest must become white. Smaller than the large variant, so never enlarged."""
    image = Image.new("RGBA", (640, 480), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((160, 120, 479, 359), fill=(*RED, 255))
    return Picture(
        key="pictures/transparent.png",
        mime="image/png",
        data=encode(image, "PNG"),
        sizes={"small": (256, 192), "large": (640, 480)},
        corners=(WHITE,) * 4,
        centre=RED,
    )


def webp() -> Picture:
    size = (1200, 900)
    return Picture(
        key="pictures/picture.webp",
        mime="image/webp",
        data=encode(with_corners(gradients(size), (GREEN, BLUE, RED, YELLOW)), "WEBP", quality=85),
        sizes={"small": (256, 192), "large": (800, 600)},
        corners=(GREEN, BLUE, RED, YELLOW),
    )


def gif() -> Picture:
    """Two frames; the first counts."""
    colours = (YELLOW, RED, GREEN, BLUE)
    first, second = (with_corners(Image.new("RGB", (400, 300), WHITE), order) for order in (colours, colours[::-1]))
    return Picture(
        key="pictures/moving.gif",
        mime="image/gif",
        data=encode(first, "GIF", save_all=True, append_images=[second], duration=200),
        sizes={"small": (256, 192), "large": (400, 300)},
        corners=colours,
    )


TINY = (320, 240)


@cache
def tiny() -> tuple[tuple[str, bytes], ...]:
    """Type and content of 24 small pictures that no two thumbnails of are alike."""
    found = []
    for number, colours in enumerate(permutations((RED, GREEN, BLUE, YELLOW))):
        kind, options = [("PNG", {}), ("JPEG", {"quality": 90})][number % 2]
        image = with_corners(Image.new("RGB", TINY, WHITE), colours)
        found.append((f"image/{kind.lower()}", encode(image, kind, **options)))
    return tuple(found)


def unlike(thumbnail: bytes, source: bytes, side: int) -> list[str]:
    """What is wrong with a thumbnail of this source, a picture of four corners, within a square of this side."""
    image, original = Image.open(BytesIO(thumbnail)), Image.open(BytesIO(source))
    scale = min(1, side / max(original.size))
    wanted = tuple(round(length * scale) for length in original.size)
    found = [] if image.size == wanted else [f"size: expected {wanted}, saw {image.size}"]
    for (place, seen), colour in zip(at_corners(image).items(), at_corners(original).values(), strict=True):
        if not close(seen, colour):
            found.append(f"{place}: expected about {colour}, saw {seen}")
    return found


@cache
def all_pictures() -> tuple[Picture, ...]:
    return photo(), transparent(), webp(), gif()


def at_corners(image: Image.Image) -> dict[str, tuple[int, int, int]]:
    """The colours in the middle of the four patches."""
    width, height = image.size
    near_x, near_y = width // 16, height // 16
    far_x, far_y = width - 1 - near_x, height - 1 - near_y
    places = [(near_x, near_y), (far_x, near_y), (near_x, far_y), (far_x, far_y)]
    return dict(zip(CORNERS, map(image.convert("RGB").getpixel, places), strict=True))


def close(seen: tuple[int, int, int], wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= TOLERANCE for a, b in zip(seen, wanted, strict=True))


def faults(thumbnail: bytes, picture: Picture, variant: str) -> list[str]:
    """What is wrong with a thumbnail of this picture."""
    image = Image.open(BytesIO(thumbnail))
    found = []
    if image.format != "JPEG":
        found.append(f"format: expected JPEG, saw {image.format}")
    if image.size != picture.sizes[variant]:
        found.append(f"size: expected {picture.sizes[variant]}, saw {image.size}")
    if image.getexif():
        found.append(f"metadata: expected none, saw EXIF tags {list(image.getexif())}")
    for (place, seen), wanted in zip(at_corners(image).items(), picture.corners, strict=True):
        if not close(seen, wanted):
            found.append(f"{place}: expected about {wanted}, saw {seen}")
    middle = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    if picture.centre and not close(middle, picture.centre):
        found.append(f"centre: expected about {picture.centre}, saw {middle}")
    return found


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for picture in all_pictures():
        (directory / Path(picture.key).name).write_bytes(picture.data)


if __name__ == "__main__":
    main()
