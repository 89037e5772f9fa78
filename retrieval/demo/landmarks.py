"""The demo's landmarks: sixteen kinds of building, each with its own proportions, windows and colours.

Two landmarks of the same kind differ in shape and detail, as real ones do. The few palettes are shared, so landmarks cannot be
identified by colour only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrieval.demo.shapes import ACCENT, DOOR, OPENINGS, ROOF, TRIM, WALL, WINDOW, Grid, Mesh, Profile

STONES = (
    (226, 208, 172),
    (178, 86, 62),
    (240, 236, 228),
    (208, 152, 96),
    (152, 154, 164),
    (242, 210, 120),
    (132, 108, 92),
    (216, 152, 140),
)
ROOFS = ((84, 142, 118), (172, 66, 46), (76, 84, 108), (112, 74, 56), (212, 168, 62), (74, 116, 160))
GLASS = ((66, 84, 108), (52, 50, 58), (104, 128, 146))
ACCENTS = ((230, 186, 62), (184, 44, 44), (50, 98, 166), (242, 242, 238), (44, 128, 104))


@dataclass(frozen=True, eq=False)
class Landmark:
    """A building: its mesh, and its palette as float [6, 3], RGB 0 … 255 of each material."""

    mesh: Mesh
    palette: np.ndarray


def build_landmark(kind: int, rng: np.random.Generator) -> Landmark:
    """A new landmark of kind `kind` modulo the number of kinds."""
    mesh = Mesh()
    KINDS[kind % len(KINDS)](mesh, rng)
    wall = np.array(STONES[rng.integers(len(STONES))], float)
    trim = wall * rng.choice([0.78, 1.12])
    roof, glass, accent = (table[rng.integers(len(table))] for table in (ROOFS, GLASS, ACCENTS))
    palette = np.array([wall, trim, roof, glass, (62, 48, 44), accent], float)
    return Landmark(mesh, np.clip(palette + rng.normal(0, 5, (6, 1)), 20, 250))


def _grid(rng: np.random.Generator, rows: tuple[int, int], columns: tuple[int, int], fill: float = 0.6) -> Grid:
    opening = ("square", "slot", "arch", "round", "band")[rng.integers(5)]
    return Grid(int(rng.integers(rows[0], rows[1] + 1)), int(rng.integers(columns[0], columns[1] + 1)), opening, fill)


def _dome(radius: float, base: float, height: float, *, onion: bool = False) -> Profile:
    angles = np.linspace(0, np.pi / 2, 6)
    swell = 1 + 0.28 * np.sin(2 * angles) * onion
    radii = radius * np.cos(angles) * swell
    rise = height * np.sin(angles) ** (1.6 if onion else 1)
    return [*zip(radii[:-1], base + rise[:-1], strict=True), (0.0, base + height)]


def _opening(opening: str, x: float, y: float, width: float, height: float) -> Profile:
    return [(x + width * u, y + height * v) for u, v in OPENINGS[opening]]


def _arch_notches(xs: list[float], width: float, height: float) -> Profile:
    """Points of ground-level arches from left to right, to be spliced into an outline's lower edge."""
    angles = np.linspace(np.pi, 0, 9)
    points = []
    for x in xs:
        spring = height - width / 2
        curve = [(x + width / 2 * np.cos(a), spring + width / 2 * np.sin(a)) for a in angles]
        points += [(x - width / 2, 0), *curve, (x + width / 2, 0)]
    return points


def _battlements(width: float, height: float, teeth: int, size: float) -> Profile:
    xs = np.repeat(np.linspace(width / 2, -width / 2, 2 * teeth), 2)[1:-1]
    ys = np.repeat(height + size * (np.arange(2 * teeth - 1) % 2 == 0), 2)
    return [(-width / 2, 0), (width / 2, 0), *zip(xs, ys, strict=True)]


def _gabled_hall(mesh: Mesh, width: float, height: float, pitch: float, depth: float, z: float, window: Grid) -> None:
    half = width / 2
    outline = [(-half, 0), (half, 0), (half, height), (0, height + pitch), (-half, height)]
    ornaments = [
        (_opening("round", 0, height * 0.95, width * 0.4, width * 0.4), window.material),
        (_opening("arch", 0, height * 0.25, width * 0.34, height * 0.5), DOOR),
    ]
    mesh.extrude(outline, depth=depth, at=(0, z), top=ROOF, ornaments=ornaments)


def _columns(mesh: Mesh, xs: np.ndarray, z: float, base: float, height: float, radius: float) -> None:
    for x in xs:
        shaft = [(radius * 1.5, base), (radius, base + 0.04), (radius * 0.85, base + height - 0.05)]
        mesh.lathe([*shaft, (radius * 1.5, base + height)], at=(x, z), sides=6, material=TRIM)


def _statue(mesh: Mesh, base: float, size: float) -> None:
    body = [(0.16, 0), (0.2, 0.05), (0.13, 0.35), (0.2, 0.62), (0.07, 0.74), (0.1, 0.84), (0.06, 0.95), (0, 1)]
    mesh.lathe([(r * size, base + y * size) for r, y in body], sides=8, material=ACCENT)


def _cathedral(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height, spire = rng.uniform(0.6, 0.9), rng.uniform(0.6, 1.0), rng.uniform(0.3, 0.9)
    _gabled_hall(mesh, width, height, rng.uniform(0.25, 0.5), 1.4, -0.3, Grid(1, 1))
    tower, window = rng.uniform(0.28, 0.4), _grid(rng, (3, 4), (1, 2))
    left, right = height + rng.uniform(0.2, 0.7), height + rng.uniform(0.2, 0.7)
    for side, top in ((-1, left), (1, left if rng.random() < 0.5 else right)):
        x, z = side * (width + tower) / 2, 0.3
        mesh.box(tower, top, tower, at=(x, z), windows=window)
        sides = int(rng.choice([4, 8]))
        mesh.lathe(
            [(tower * 0.55, top), (tower * 0.5, top + 0.06), (0, top + spire)], at=(x, z), sides=sides, material=ROOF
        )


def _capitol(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height, depth = rng.uniform(1.6, 2.4), rng.uniform(0.4, 0.6), 0.8
    mesh.box(width, height, depth, windows=_grid(rng, (2, 2), (7, 11)))
    mesh.box(width * 1.03, 0.06, depth * 1.05, base=height, material=TRIM, layer=1)
    radius, drum = rng.uniform(0.3, 0.46), rng.uniform(0.2, 0.45)
    top = height + 0.06 + drum
    mesh.lathe([(radius, height + 0.06), (radius, top)], sides=14, windows=Grid(1, 1, "slot", 0.8), layer=2)
    rise = radius * rng.uniform(0.8, 1.4)
    mesh.lathe([(radius * 1.08, top - 0.04), *_dome(radius * 1.02, top, rise)], sides=14, material=ROOF, layer=2)
    lantern = top + rise
    mesh.lathe([(0.07, lantern - 0.03), (0.07, lantern + 0.14), (0, lantern + 0.3)], sides=6, material=ACCENT, layer=2)
    porch = width * rng.uniform(0.3, 0.45)
    columns = np.linspace(-porch / 2, porch / 2, int(rng.integers(4, 8))) * 0.92
    _columns(mesh, columns, depth / 2 + 0.2, 0, height, 0.035)
    pediment = [(-porch / 2 - 0.05, height), (porch / 2 + 0.05, height), (0, height + rng.uniform(0.15, 0.3))]
    mesh.extrude(pediment, depth=0.3, at=(0, depth / 2 + 0.15), material=TRIM, top=ROOF, layer=3)


def _temple(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height, depth = rng.uniform(1.5, 2.2), rng.uniform(0.6, 1.0), rng.uniform(0.9, 1.5)
    steps = int(rng.integers(2, 5))
    for k in range(steps):
        grow = 0.16 * (steps - k)
        mesh.box(width + grow, 0.07, depth + grow, base=0.07 * k, material=TRIM, layer=-steps + k)
    base = 0.07 * steps
    mesh.box(width * 0.7, height, depth * 0.7, base=base, windows=Grid(1, 1, "arch", 0.6, DOOR))
    columns, radius = int(rng.integers(4, 9)), rng.uniform(0.04, 0.075)
    for z in (-depth / 2 + radius, depth / 2 - radius):
        _columns(mesh, np.linspace(-0.47, 0.47, columns) * width, z, base, height, radius)
    for x in (-0.47 * width, 0.47 * width):
        for z in np.linspace(-0.3, 0.3, 3) * depth:
            _columns(mesh, np.array([x]), z, base, height, radius)
    top = base + height
    mesh.box(width * 1.05, 0.1, depth * 1.05, base=top, material=TRIM, layer=1)
    roof = [(-width * 0.54, top + 0.1), (width * 0.54, top + 0.1), (0, top + 0.1 + rng.uniform(0.25, 0.5))]
    crest = [(x * 0.7, top + 0.14 + (y - top - 0.1) * 0.65) for x, y in roof]
    mesh.extrude(roof, depth=depth * 1.05, top=ROOF, ornaments=[(crest, ACCENT)], layer=2)


def _castle(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height, depth = rng.uniform(1.3, 2.0), rng.uniform(0.45, 0.7), rng.uniform(0.7, 1.1)
    teeth, gate = int(rng.integers(5, 9)), rng.uniform(0.25, 0.4)
    for z in (-depth / 2, depth / 2):
        doors = [(_opening("arch", 0, gate * 0.6, gate, gate * 1.2), DOOR)] if z > 0 else []
        mesh.extrude(_battlements(width, height, teeth, 0.08), depth=0.08, at=(0, z), ornaments=doors)
    keep = height + rng.uniform(0.3, 0.9)
    mesh.box(width * 0.35, keep, depth * 0.4, windows=_grid(rng, (3, 4), (2, 3)))
    mesh.lathe([(0.55, keep), (0, keep + 0.35)], sides=4, stretch=(width * 0.35, depth * 0.4), material=ROOF)
    radius, cone, sides = rng.uniform(0.15, 0.24), rng.uniform(0.3, 0.7), int(rng.choice([6, 10]))
    for x in (-width / 2, width / 2):
        for z in (-depth / 2, depth / 2):
            top = height + rng.uniform(0.1, 0.6)
            body = [(radius * 1.1, 0), (radius, top), (radius * 1.25, top + 0.05), (radius * 1.25, top + 0.15)]
            mesh.lathe(body, at=(x, z), sides=sides, windows=Grid(3, 1, "slot", 0.5))
            mesh.lathe([(radius * 1.3, top + 0.15), (0, top + 0.15 + cone)], at=(x, z), sides=sides, material=ROOF)


def _pagoda(mesh: Mesh, rng: np.random.Generator) -> None:
    tiers, sides = int(rng.integers(3, 7)), int(rng.choice([4, 6, 8]))
    radius, shrink, storey = rng.uniform(0.4, 0.6), rng.uniform(0.78, 0.9), rng.uniform(0.22, 0.32)
    eaves, window = rng.uniform(1.3, 1.7), _grid(rng, (1, 1), (1, 3), 0.7)
    mesh.lathe([(radius * 1.5, 0), (radius * 1.4, 0.1)], sides=sides, material=TRIM)
    y = 0.1
    for _ in range(tiers):
        mesh.lathe([(radius, y), (radius, y + storey)], sides=sides, windows=window)
        y += storey
        roof = [(radius * eaves, y - 0.02), (radius * 1.1, y + 0.07), (radius * shrink, y + 0.13)]
        mesh.lathe([(radius * eaves * 1.04, y), *roof], sides=sides, material=ROOF)
        y, radius = y + 0.12, radius * shrink
    mesh.lathe([(radius, y), (0.03, y + 0.12), (0.03, y + 0.3), (0, y + 0.45)], sides=6, material=ACCENT)


def _mosque(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height = rng.uniform(1.0, 1.5), rng.uniform(0.5, 0.75)
    mesh.box(width, height, width * 0.8, windows=_grid(rng, (1, 2), (3, 6), 0.7))
    radius, onion = width * rng.uniform(0.28, 0.42), bool(rng.integers(2))
    mesh.lathe([(radius * 0.95, height), (radius * 0.95, height + 0.12)], sides=14, material=TRIM, layer=1)
    dome = _dome(radius, height + 0.12, radius * rng.uniform(0.9, 1.5), onion=onion)
    mesh.lathe(dome, sides=14, material=int(rng.choice([ROOF, ACCENT])), layer=1)
    minaret, thin, rings = height + rng.uniform(0.5, 1.1), rng.uniform(0.055, 0.09), int(rng.integers(1, 4))
    corners = [(-1, 1), (1, 1), (-1, -1), (1, -1)][: int(rng.choice([2, 4]))]
    for x, z in corners:
        at = (x * (width / 2 + 0.15), z * (width * 0.4 + 0.1))
        levels = np.linspace(0, minaret, rings + 2)
        profile = [(thin * 1.4, 0.0)]
        for level in levels[1:]:
            profile += [(thin, level - 0.06), (thin * 1.6, level - 0.02), (thin * 1.6, level), (thin, level)]
        mesh.lathe(
            [*profile, (0, minaret + 0.25)], at=at, sides=7, material=(WALL, TRIM, TRIM, WALL), layer=int(z > 0) * 2
        )


def _triumphal_arch(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height = rng.uniform(1.3, 1.9), rng.uniform(1.0, 1.4)
    main, side = width * rng.uniform(0.26, 0.36), width * rng.uniform(0.12, 0.17)
    xs = [0.0] if rng.random() < 0.4 else [-width * 0.34, 0.0, width * 0.34]
    notches = []
    for x in xs:
        notches += _arch_notches([x], side if x else main, height * (0.42 if x else 0.66))
    outline = [(-width / 2, 0), *notches, (width / 2, 0), (width / 2, height), (-width / 2, height)]
    medallions = [(_opening("round", x, height * 0.72, side, side), ACCENT) for x in (-width * 0.34, width * 0.34)]
    mesh.extrude(outline, depth=0.55, ornaments=medallions)
    attic = rng.uniform(0.18, 0.35)
    mesh.box(width * 1.08, 0.07, 0.66, base=height, material=TRIM, layer=1)
    mesh.box(width, attic, 0.55, base=height + 0.07, windows=_grid(rng, (1, 1), (3, 7)), layer=1)
    mesh.box(width * 1.06, 0.06, 0.62, base=height + 0.07 + attic, material=TRIM, layer=1)
    if rng.random() < 0.6:
        _statue(mesh, height + 0.13 + attic, rng.uniform(0.35, 0.6))


def _bridge(mesh: Mesh, rng: np.random.Generator) -> None:
    width, deck = rng.uniform(2.4, 3.2), rng.uniform(0.4, 0.6)
    arches = int(rng.integers(3, 6))
    span = width / arches
    xs = [-width / 2 + span * (k + 0.5) for k in range(arches)]
    road = deck + rng.uniform(0.0, 0.2)
    top = [(width / 2, deck), (0, road), (-width / 2, deck)]
    outline = [(-width / 2, 0), *_arch_notches(xs, span * 0.78, deck * 0.85), (width / 2, 0), *top]
    mesh.extrude(outline, depth=0.4, top=TRIM)
    height, x, tower = rng.uniform(0.5, 1.2), width * rng.uniform(0.2, 0.36), rng.uniform(0.2, 0.32)
    window = _grid(rng, (2, 3), (1, 2))
    crown = int(rng.integers(3))
    for at in ((-x, 0.0), (x, 0.0)):
        mesh.box(tower, deck + height, tower * 1.5, at=at, windows=window, layer=1)
        tip = [(tower * 0.6, deck + height), (0, deck + height + (0, 0.25, 0.55)[crown])]
        if crown:
            mesh.lathe(tip, at=at, sides=4, material=ROOF, layer=1)
    cable = [(-x, deck + height * 0.9), (0, road + 0.08), (x, deck + height * 0.9)]
    lower = [(px, py - 0.035) for px, py in cable]
    if rng.random() < 0.6:
        mesh.extrude([*lower, *cable[::-1]], depth=0.03, at=(0, 0.15), material=ACCENT, layer=2)


def _lighthouse(mesh: Mesh, rng: np.random.Generator) -> None:
    height, radius, bands = rng.uniform(1.5, 2.1), rng.uniform(0.22, 0.34), int(rng.integers(3, 8))
    taper = rng.uniform(0.5, 0.75)
    rings = [(radius * (1 - (1 - taper) * t), height * t) for t in np.linspace(0, 1, bands + 1)]
    mesh.lathe(
        rings, material=(WALL, ACCENT) if rng.random() < 0.7 else (WALL, TRIM), windows=Grid(1, 1, "slot", 0.3), on=1
    )
    top = radius * taper
    gallery = [(top, height), (top * 1.5, height + 0.06), (top * 1.5, height + 0.1), (top * 0.8, height + 0.1)]
    mesh.lathe(gallery, material=TRIM)
    lamp = height + rng.uniform(0.28, 0.4)
    mesh.lathe([(top * 0.8, height + 0.1), (top * 0.8, lamp)], material=WINDOW)
    mesh.lathe(_dome(top * 0.95, lamp, rng.uniform(0.12, 0.3)), material=ROOF)
    house = rng.uniform(0.5, 0.9)
    x = (radius + house / 2 + 0.02) * rng.choice([-1, 1])
    outline = [(-house / 2, 0), (house / 2, 0), (house / 2, 0.3), (0, 0.52), (-house / 2, 0.3)]
    panes = [(_opening("square", dx * house, 0.16, 0.1, 0.14), WINDOW) for dx in (-0.25, 0.25)]
    mesh.extrude(outline, depth=0.5, at=(x, 0.05), top=ROOF, ornaments=panes)


def _skyscraper(mesh: Mesh, rng: np.random.Generator) -> None:
    width, y, steps = rng.uniform(0.6, 0.95), 0.0, int(rng.integers(2, 6))
    sides, opening = int(rng.choice([4, 4, 8])), str(rng.choice(["square", "slot", "band"]))
    for _ in range(steps):
        height = rng.uniform(0.3, 0.8)
        window = Grid(max(2, int(height * 8)), 5 if sides == 4 else 2, opening, 0.7)
        mesh.lathe([(width / 2, y), (width / 2, y + height)], sides=sides, windows=window)
        y, width = y + height, width * rng.uniform(0.62, 0.85)
    if rng.random() < 0.5:
        mesh.lathe([(width / 2, y), (width / 4, y + 0.2), (0.025, y + 0.3), (0, y + 0.7)], sides=sides, material=ROOF)
    else:
        mesh.lathe(_dome(width / 2, y, width * 0.6), sides=8, material=ACCENT)


def _victory_column(mesh: Mesh, rng: np.random.Generator) -> None:
    plinth, height, radius = rng.uniform(0.4, 0.7), rng.uniform(1.1, 1.7), rng.uniform(0.09, 0.16)
    mesh.box(plinth * 1.5, 0.1, plinth * 1.5, material=TRIM)
    mesh.box(plinth, 0.35, plinth, base=0.1, windows=Grid(1, int(rng.integers(1, 4)), "square", 0.6, ACCENT))
    top = 0.45 + height
    if rng.random() < 0.4:
        mesh.lathe([(radius * 1.7, 0.45), (radius, top), (0, top + 0.2)], sides=4, windows=_grid(rng, (4, 8), (1, 1)))
        return
    rings = [(radius * (1.1 - 0.2 * t), 0.45 + height * t) for t in np.linspace(0, 1, int(rng.integers(2, 9)))]
    mesh.lathe([(radius * 1.5, 0.45), *rings], material=(TRIM, WALL))
    mesh.lathe([(radius, top), (radius * 1.7, top + 0.07), (radius * 1.7, top + 0.12)], sides=4, material=TRIM)
    _statue(mesh, top + 0.12, rng.uniform(0.4, 0.65))


def _windmill(mesh: Mesh, rng: np.random.Generator) -> None:
    height, radius, sides = rng.uniform(1.0, 1.4), rng.uniform(0.32, 0.45), int(rng.choice([6, 8, 12]))
    mesh.lathe([(radius, 0), (radius * 0.62, height)], sides=sides, windows=Grid(3, 1, "square", 0.3))
    mesh.lathe(_dome(radius * 0.72, height, rng.uniform(0.25, 0.45)), sides=sides, material=ROOF)
    count, length, turn = int(rng.choice([4, 4, 6])), rng.uniform(0.7, 0.95), rng.uniform(0, np.pi / 2)
    for k in range(count):
        angle = turn + 2 * np.pi * k / count
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        corners = ((0.05, -0.015), (length, -0.015), (length, 0.17), (0.25, 0.17), (0.25, 0.015), (0.05, 0.015))
        blade = [tuple(along * u + across * v + (0, height + 0.05)) for u, v in corners]
        mesh.extrude(blade, depth=0.02, at=(0, radius * 0.85), material=int(rng.choice([TRIM, ACCENT])), layer=1)


def _clock_tower(mesh: Mesh, rng: np.random.Generator) -> None:
    width, height, clock = rng.uniform(0.36, 0.55), rng.uniform(1.1, 1.6), rng.uniform(0.36, 0.46)
    mesh.box(width, height, width, windows=_grid(rng, (4, 7), (1, 3)))
    mesh.box(width * 1.15, clock, width * 1.15, base=height, windows=Grid(1, 1, "round", 0.8, ACCENT))
    y, roof = height + clock, rng.uniform(0.4, 0.9)
    if rng.random() < 0.5:
        mesh.lathe([(width * 0.6, y), (0.3 * width, y + roof * 0.4), (0, y + roof)], sides=4, material=ROOF)
    else:
        mesh.box(width * 0.8, 0.25, width * 0.8, base=y, windows=Grid(1, 2, "arch", 0.7, DOOR))
        mesh.lathe(_dome(width * 0.42, y + 0.25, roof * 0.6, onion=True), sides=8, material=ROOF)
    wing = rng.uniform(0.5, 1.3)
    for side in (-1, 1)[: int(rng.integers(1, 3))]:
        x = side * (width + wing) / 2
        mesh.box(wing, height * 0.35, width, at=(x, 0), windows=Grid(2, 4, "arch"), layer=-1)


def _step_pyramid(mesh: Mesh, rng: np.random.Generator) -> None:
    steps, width, slope = int(rng.integers(3, 9)), rng.uniform(1.7, 2.4), rng.uniform(0.0, 0.15)
    height = rng.uniform(0.8, 1.3) / steps
    shrink = rng.uniform(0.25, 0.4)
    for k in range(steps):
        size = width * (1 - (1 - shrink) * k / steps)
        profile = [(size / 2, k * height), (size / 2 * (1 - slope), (k + 1) * height)]
        mesh.lathe(profile, sides=4, material=(WALL, TRIM)[k % 2])
    top = steps * height
    mesh.lathe([(0.5, 0), (0.5 * shrink, top)], sides=4, stretch=(0.28, width * 1.04), material=ACCENT)
    mesh.box(width * shrink * 0.8, 0.28, width * shrink * 0.8, base=top, windows=_grid(rng, (1, 1), (1, 3), 0.7))
    mesh.lathe([(width * shrink * 0.45, top + 0.28), (0, top + 0.28 + rng.uniform(0.1, 0.4))], sides=4, material=ROOF)


def _onion_church(mesh: Mesh, rng: np.random.Generator) -> None:
    body, height = rng.uniform(0.7, 1.0), rng.uniform(0.4, 0.65)
    mesh.box(body * 1.3, height, body, windows=_grid(rng, (1, 2), (3, 5), 0.7))
    ring = int(rng.integers(2, 5))
    places = [(0.0, 0.0, 1.0)] + [
        (body * 0.55 * np.cos(a), body * 0.42 * np.sin(a), rng.uniform(0.5, 0.8))
        for a in np.pi / 4 + np.arange(ring) * 2 * np.pi / ring
    ]
    tall, colours = rng.uniform(0.5, 0.9), (ROOF, ACCENT) if rng.random() < 0.5 else (ROOF, ROOF)
    for k, (x, z, size) in enumerate(places):
        radius, top = 0.2 * size, height + tall * size
        mesh.lathe(
            [(radius, 0), (radius, height), (radius, top)],
            at=(x, z),
            sides=8,
            windows=Grid(2, 1, "slot"),
            on=1,
            layer=1,
        )
        onion = _dome(radius * 1.05, top, radius * 2.2, onion=True)
        mesh.lathe(onion, at=(x, z), sides=10, material=colours[k % 2], layer=1)
        mesh.lathe(
            [(0.015, top + radius * 2.1), (0.015, top + radius * 3)], at=(x, z), sides=4, material=ACCENT, layer=1
        )


def _television_tower(mesh: Mesh, rng: np.random.Generator) -> None:
    height, radius, ball = rng.uniform(1.3, 1.9), rng.uniform(0.12, 0.2), rng.uniform(0.2, 0.36)
    mesh.lathe([(radius * rng.uniform(1.2, 3), 0), (radius, 0.3), (radius * 0.5, height)], sides=8)
    flat = rng.uniform(0.4, 1.0)
    angles = np.linspace(-np.pi / 2, np.pi / 2, 8)
    sphere = [(max(ball * np.cos(a), 0.02), height + ball * flat * np.sin(a)) for a in angles]
    mesh.lathe(sphere, sides=14, material=(TRIM, TRIM, WALL, WINDOW, WALL, TRIM, TRIM))
    if rng.random() < 0.5:
        mesh.lathe(
            [(ball * 0.5, height * 0.55), (ball * 0.7, height * 0.6), (ball * 0.4, height * 0.64)], material=TRIM
        )
    top = height + ball * flat
    mesh.lathe([(0.05, top), (0.03, top + 0.3), (0, top + rng.uniform(0.4, 0.9))], sides=6, material=ACCENT)


KINDS: tuple[Callable[[Mesh, np.random.Generator], None], ...] = (
    _cathedral,
    _capitol,
    _temple,
    _castle,
    _pagoda,
    _mosque,
    _triumphal_arch,
    _bridge,
    _lighthouse,
    _skyscraper,
    _victory_column,
    _windmill,
    _clock_tower,
    _step_pyramid,
    _onion_church,
    _television_tower,
)
