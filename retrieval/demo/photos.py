"""Photographs of the demo's landmarks: viewpoint, framing, weather, things in the way, and the camera's own faults."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from retrieval.demo.landmarks import ROOFS, STONES, Landmark
from retrieval.demo.shapes import WINDOW, View, draw_mesh

LONG_SIDE = (132, 200)
SHAPES = ((1.0, 0.75), (0.75, 1.0), (1.0, 0.66), (0.72, 1.0), (1.0, 1.0))
"""Width and height as shares of the long side."""
OVERSAMPLING = 2

SKIES = (
    ((86, 142, 214), (206, 226, 242), (1.0, 1.0, 0.98), 0.55),
    ((150, 190, 226), (236, 238, 232), (1.0, 0.98, 0.94), 0.45),
    ((176, 184, 192), (220, 222, 222), (0.88, 0.9, 0.93), 0.2),
    ((92, 104, 168), (250, 178, 120), (1.0, 0.9, 0.82), 0.6),
    ((214, 140, 120), (252, 220, 160), (1.0, 0.93, 0.84), 0.55),
    ((24, 34, 72), (92, 92, 132), (0.6, 0.63, 0.74), 0.25),
)
"""Colour above, colour at the horizon, tint of what stands under it, and strength of the sun."""
NIGHT = len(SKIES) - 1
GROUNDS = ((112, 142, 78), (164, 158, 148), (196, 180, 140), (92, 128, 156), (126, 120, 112), (140, 152, 90))
LEAVES = ((62, 98, 52), (84, 112, 50), (46, 84, 60), (150, 112, 48))
CLOTHES = ((52, 60, 92), (168, 60, 52), (230, 224, 210), (64, 92, 74), (42, 40, 44), (214, 168, 70))


def photograph(landmark: Landmark | None, rng: np.random.Generator) -> Image.Image:
    """An RGB picture of 87 to 200 pixels a side; without a landmark, of an ordinary street or field."""
    long_side = rng.integers(LONG_SIDE[0], LONG_SIDE[1] + 1)
    width, height = (round(long_side * share) for share in SHAPES[rng.integers(len(SHAPES))])
    sky_number = int(rng.choice(len(SKIES), p=(0.3, 0.22, 0.18, 0.12, 0.12, 0.06)))
    above, horizon_colour, tint, sun = SKIES[sky_number]
    tint = np.array(tint)
    canvas = _sky(width * OVERSAMPLING, height * OVERSAMPLING, above, horizon_colour, rng)
    draw = ImageDraw.Draw(canvas)
    w, h = canvas.size
    horizon = h * rng.uniform(0.66, 0.86)
    _clouds(draw, w, horizon, np.array(horizon_colour), rng)
    _hills(draw, w, horizon, np.array(horizon_colour), tint, rng)
    for _ in range(int(rng.integers(1, 5) if landmark else rng.integers(3, 8))):
        _house(draw, w, h, horizon, np.array(horizon_colour), tint, sky_number == NIGHT, rng)
    _ground(draw, w, h, horizon, tint, rng)
    if landmark:
        _landmark(draw, landmark, w, h, horizon, tint, sun, sky_number == NIGHT, rng)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=(0.4, 0.35, 0.2, 0.05)))):
        _tree(draw, w, h, horizon, tint, rng)
    for _ in range(int(rng.choice([0, 2, 5], p=(0.45, 0.35, 0.2)))):
        _person(draw, w, h, tint, rng)
    return _camera(canvas.reduce(OVERSAMPLING), rng)


def _fill(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(min(max(int(value), 0), 255) for value in colour)


def _sky(width: int, height: int, above: tuple, below: tuple, rng: np.random.Generator) -> Image.Image:
    t = np.linspace(0, 1, height)[:, None, None] ** rng.uniform(0.6, 1.4)
    column = np.array(above) * (1 - t) + np.array(below) * t
    return Image.fromarray(column.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def _clouds(draw: ImageDraw.ImageDraw, w: int, horizon: float, colour: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(0, 4))):
        x, y, size = rng.uniform(0, w), rng.uniform(0.05, 0.6) * horizon, w * rng.uniform(0.05, 0.11)
        for dx in np.linspace(-1.6, 1.6, 5):
            r = size * (0.75 - 0.22 * abs(dx)) * rng.uniform(0.85, 1.15)
            cx = x + dx * size * 0.8
            draw.ellipse((cx - r * 1.3, y - r * 0.8, cx + r * 1.3, y + r * 0.5), fill=_fill(colour * 0.5 + 118))


def _hills(
    draw: ImageDraw.ImageDraw, w: int, horizon: float, haze: np.ndarray, tint: np.ndarray, rng: np.random.Generator
) -> None:
    if rng.random() < 0.5:
        return
    xs = np.linspace(0, w, 13)
    phase, rise = rng.uniform(0, 6, 2), w * rng.uniform(0.03, 0.12)
    ys = horizon - rise * (1 + 0.6 * np.sin(xs / w * 5 + phase[0]) + 0.3 * np.sin(xs / w * 13 + phase[1]))
    colour = 0.6 * haze + 0.4 * tint * (92, 122, 104)
    draw.polygon([(0, horizon), *zip(xs.tolist(), ys.tolist(), strict=True), (w, horizon)], fill=_fill(colour))


def _house(
    draw: ImageDraw.ImageDraw,
    w: int,
    h: int,
    horizon: float,
    haze: np.ndarray,
    tint: np.ndarray,
    night: bool,
    rng: np.random.Generator,
) -> None:
    """An ordinary house of the same stones and roofs as the landmarks, a little lost in the haze."""
    x, width, height = rng.uniform(-0.1, 1.0) * w, w * rng.uniform(0.08, 0.24), h * rng.uniform(0.06, 0.3)
    far = rng.uniform(0.15, 0.5)
    stone, roof = (np.array(table[rng.integers(len(table))]) * tint for table in (STONES, ROOFS))
    stone, roof = (0.92 * colour * (1 - far) + haze * far for colour in (stone, roof))
    y = horizon + h * 0.02
    draw.rectangle((x, y - height, x + width, y), fill=_fill(stone))
    top = rng.choice([0, 0.25, 0.5]) * width
    eaves = width * 0.05
    draw.polygon(
        [(x - eaves, y - height), (x + width / 2, y - height - top), (x + width + eaves, y - height)], fill=_fill(roof)
    )
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    pane = np.array((240, 206, 120)) if night else stone * 0.55
    for row in range(rows):
        for column in range(columns):
            px, py = x + width * (column + 0.28) / columns, y - height * (row + 0.8) / rows
            draw.rectangle((px, py, px + width * 0.44 / columns, py + height * 0.5 / rows), fill=_fill(pane))


def _ground(
    draw: ImageDraw.ImageDraw, w: int, h: int, horizon: float, tint: np.ndarray, rng: np.random.Generator
) -> None:
    colour = np.array(GROUNDS[rng.integers(len(GROUNDS))]) * tint * rng.uniform(0.85, 1.1)
    draw.rectangle((0, horizon, w, h), fill=_fill(colour))
    if rng.random() < 0.6:
        middle, near, far = rng.uniform(0.2, 0.8) * w, w * rng.uniform(0.15, 0.5), w * rng.uniform(0.02, 0.08)
        foot = middle + rng.uniform(-0.3, 0.3) * w
        path = [(middle - far, horizon), (middle + far, horizon), (foot + near, h), (foot - near, h)]
        draw.polygon(path, fill=_fill(colour * 0.5 + tint * 96))


def _landmark(
    draw: ImageDraw.ImageDraw,
    landmark: Landmark,
    w: int,
    h: int,
    horizon: float,
    tint: np.ndarray,
    sun: float,
    night: bool,
    rng: np.random.Generator,
) -> None:
    view = View(
        yaw=rng.uniform(-0.45, 0.45),
        pitch=rng.uniform(0.03, 0.2),
        roll=rng.normal(0, 0.04),
        distance=rng.uniform(3.6, 9.0),
    )
    azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.3, 1.0)
    light = np.array([np.sin(azimuth), np.tan(elevation), np.cos(azimuth)])
    palette = landmark.palette * tint * (1 + 0.25 * sun)
    if night:
        palette[WINDOW] = (250, 214, 124)
    foot = (w * np.clip(rng.normal(0.5, 0.06), 0.3, 0.7), min(horizon + h * rng.uniform(0.02, 0.16), h))
    zoom = rng.uniform(0.9, 1.2)
    draw_mesh(
        draw,
        landmark.mesh,
        view,
        palette,
        foot=foot,
        extent=(w * zoom, foot[1] * min(zoom, 1.12)),
        light=sun * light / np.linalg.norm(light),
        glow=night,
    )


def _tree(
    draw: ImageDraw.ImageDraw, w: int, h: int, horizon: float, tint: np.ndarray, rng: np.random.Generator
) -> None:
    x, base, size = rng.uniform(-0.05, 1.05) * w, rng.uniform(horizon, h), h * rng.uniform(0.12, 0.4)
    leaves = np.array(LEAVES[rng.integers(len(LEAVES))]) * tint
    draw.rectangle((x - size * 0.05, base - size * 0.5, x + size * 0.05, base), fill=_fill(tint * (92, 70, 52)))
    if rng.random() < 0.3:
        for k in range(3):
            y, half = base - size * (0.25 + 0.25 * k), size * (0.32 - 0.07 * k)
            draw.polygon([(x - half, y), (x, y - size * 0.42), (x + half, y)], fill=_fill(leaves * (0.85 + 0.1 * k)))
        return
    for shade in (0.8, 0.95, 1.12):
        for _ in range(4):
            cx, cy = x + size * rng.normal(0, 0.15), base - size * (0.72 + rng.normal(0, 0.1) + 0.1 * (shade - 0.95))
            r = size * rng.uniform(0.13, 0.22)
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=_fill(leaves * shade))


def _person(draw: ImageDraw.ImageDraw, w: int, h: int, tint: np.ndarray, rng: np.random.Generator) -> None:
    size = h * rng.uniform(0.08, 0.26)
    x, base = rng.uniform(0, w), h * rng.uniform(0.93, 1.08)
    coat, legs = (np.array(CLOTHES[rng.integers(len(CLOTHES))]) * tint for _ in range(2))
    draw.rectangle((x - size * 0.1, base - size * 0.45, x + size * 0.1, base), fill=_fill(legs))
    body = (x - size * 0.16, base - size * 0.84, x + size * 0.16, base - size * 0.36)
    draw.rounded_rectangle(body, size * 0.1, fill=_fill(coat))
    draw.ellipse(
        (x - size * 0.09, base - size, x + size * 0.09, base - size * 0.81), fill=_fill(tint * (214, 170, 140))
    )


def _camera(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Focus, exposure, white balance and sensor noise."""
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1)))
    gain, gamma = rng.uniform(0.88, 1.12) * rng.normal(1, 0.025, 3), rng.uniform(0.85, 1.2)
    curves = np.minimum(np.arange(256) / 255 * gain[:, None], 1) ** gamma * 255
    pixels = np.asarray(image.point(curves.round().astype(int).ravel().tolist()), np.int16)
    # Uniform noise: Gaussian noise would take longer than the rest of the photograph.
    half = int(rng.integers(2, 12))
    noise = rng.integers(-half, half + 1, pixels.shape, np.int8)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
