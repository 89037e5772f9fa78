"""Small solid shapes and their drawing in perspective: enough geometry for the demo's buildings, without a renderer.

A `Mesh` is built from two kinds of solid, turned ones (`lathe`: towers, domes, columns, boxes) and cut-out ones
(`extrude`: gables, arches, walls with battlements). Axes: x to the right, y up, z towards the viewer; one unit is about
half the width of a building. The painter's algorithm orders the solids (Newell, Newell and Sancha 1972).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

WALL, TRIM, ROOF, WINDOW, DOOR, ACCENT = range(6)
"""Materials: row numbers of a landmark's palette."""

Profile = Sequence[tuple[float, float]]
"""Points (x, y), or for a turned solid (radius, y) from the bottom to the top."""

OPENINGS = {
    "square": ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)),
    "slot": ((-0.22, -0.5), (0.22, -0.5), (0.22, 0.5), (-0.22, 0.5)),
    "arch": ((-0.4, -0.5), (0.4, -0.5), (0.4, 0.15), (0.28, 0.4), (0, 0.5), (-0.28, 0.4), (-0.4, 0.15)),
    "round": tuple((0.5 * np.cos(a), 0.5 * np.sin(a)) for a in np.arange(10) * np.pi / 5),
    "band": ((-0.5, -0.2), (0.5, -0.2), (0.5, 0.2), (-0.5, 0.2)),
}
"""Outlines of windows and ornaments in a cell of side 1 around the origin, counter-clockwise."""


@dataclass(frozen=True)
class Grid:
    """Openings on a wall: rows × columns of one outline, each filling the share `fill` of its cell."""

    rows: int
    columns: int
    opening: str = "arch"
    fill: float = 0.6
    material: int = WINDOW

    def outlines(self) -> list[np.ndarray]:
        """Each opening as float [k, 2] in wall coordinates, 0 … 1 from left to right and from bottom to top."""
        shape = np.array(OPENINGS[self.opening]) * self.fill
        cells = [(column + 0.5, row + 0.5) for row in range(self.rows) for column in range(self.columns)]
        return [(shape + cell) / (self.columns, self.rows) for cell in cells]


@dataclass(frozen=True)
class View:
    """Where the camera stands: angles in radians around the landmark, distance in the mesh's units."""

    yaw: float
    pitch: float
    roll: float
    distance: float


class Mesh:
    """Faces in the order of their making; one number for each solid, so that a view can order them by depth."""

    def __init__(self) -> None:
        self._points: list[np.ndarray] = []
        self._materials: list[int] = []
        self._solids: list[int] = []
        self._centres: list[tuple[float, float, float]] = []

    def _solid(self, x: float, z: float, layer: int) -> None:
        self._centres.append((x, z, layer))

    def _face(self, points: np.ndarray, material: int) -> None:
        self._points.append(np.asarray(points, float))
        self._materials.append(material)
        self._solids.append(len(self._centres) - 1)

    def lathe(
        self,
        profile: Profile,
        *,
        at: tuple[float, float] = (0, 0),
        sides: int = 12,
        stretch: tuple[float, float] = (1, 1),
        material: int | Sequence[int] = WALL,
        windows: Grid | None = None,
        on: int = 0,
        layer: int = 0,
    ) -> None:
        """A turned solid; with four sides and `stretch` a box. `windows` go on the `on`-th segment of every side.

        Args:
            profile: (distance of a side from the axis, y), bottom to top.
            at: x and z of the axis.
            material: one for all segments, or one for each segment in turn.
            layer: solids of a lower layer are drawn first, whatever their depth.
        """
        self._solid(*at, layer)
        angles = (np.arange(sides + 1) - 0.5) * 2 * np.pi / sides
        ring = np.stack([np.sin(angles), np.zeros(sides + 1), np.cos(angles)], 1) / np.cos(np.pi / sides)
        ring *= (stretch[0], 1, stretch[1])
        rings = [ring * radius + (at[0], y, at[1]) for radius, y in profile]
        materials = (material,) if isinstance(material, int) else material
        for segment, (low, high) in enumerate(itertools.pairwise(rings)):
            for side in range(sides):
                corners = low[side], low[side + 1], high[side + 1], high[side]
                self._face(np.stack(corners), materials[segment % len(materials)])
                if windows and segment == on:
                    for outline in windows.outlines():
                        self._face(_on_wall(corners, outline), windows.material)
        if profile[-1][0] > 0:
            self._face(rings[-1][:-1], materials[(len(profile) - 2) % len(materials)])

    def extrude(
        self,
        outline: Profile,
        *,
        depth: float,
        at: tuple[float, float] = (0, 0),
        material: int = WALL,
        top: int | None = None,
        ornaments: Sequence[tuple[Profile, int]] = (),
        layer: int = 0,
    ) -> None:
        """A cut-out solid: `outline` (x, y), counter-clockwise, at z ± depth/2.

        Args:
            at: x and z of the outline's origin.
            top: material of the edges that look up, such as a roof; `material` when None.
            ornaments: outlines and materials, drawn on the front and on the back.
        """
        self._solid(*at, layer)
        flat = np.array(outline, float)
        front = np.column_stack([flat[:, 0] + at[0], flat[:, 1], np.full(len(flat), at[1] + depth / 2)])
        back = front - (0, 0, depth)
        for k in range(len(flat)):
            following = (k + 1) % len(flat)
            looks_up = flat[following, 0] < flat[k, 0] - 1e-6
            edge = np.stack([front[k], back[k], back[following], front[following]])
            self._face(edge, top if looks_up and top is not None else material)
        for shape, kind in [(outline, material), *ornaments]:
            shape = np.array(shape, float)
            self._face(np.column_stack([shape + (at[0], 0), np.full(len(shape), front[0, 2])]), kind)
            self._face(np.column_stack([shape + (at[0], 0), np.full(len(shape), back[0, 2])])[::-1], kind)

    def box(
        self,
        width: float,
        height: float,
        depth: float,
        *,
        at: tuple[float, float] = (0, 0),
        base: float = 0,
        material: int = WALL,
        windows: Grid | None = None,
        layer: int = 0,
    ) -> None:
        """A cuboid that stands at height `base`."""
        profile = ((0.5, base), (0.5, base + height))
        stretch = (width, depth)
        self.lathe(profile, at=at, sides=4, stretch=stretch, material=material, windows=windows, layer=layer)

    def project(self, view: View) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """The visible faces, far ones first.

        Returns:
            For F faces: their corners as float [k, 2] with y up (a length of 1 at the axis stays 1), materials
            int [F], unit normals float [F, 3] in the mesh's axes, and the bounding box [x0, y0, x1, y1] of all faces.
        """
        points = np.concatenate(self._points)
        starts = np.cumsum([0] + [len(face) for face in self._points])
        (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (view.yaw, view.pitch, view.roll))
        turned = points @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        turned = turned @ np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        flat = turned[:, :2] * (view.distance / (view.distance - turned[:, 2]))[:, None]
        flat = flat @ np.array([[cr, sr], [-sr, cr]])
        centres = np.array(self._centres)
        nearness = centres[:, 1] * cy - centres[:, 0] * sy
        order = np.lexsort((np.arange(len(starts) - 1), nearness[self._solids], centres[self._solids, 2]))
        # Cross sums over each polygon's edges: twice the signed area in the picture, and the normal in space.
        after = np.arange(1, len(points) + 1)
        after[starts[1:] - 1] = starts[:-1]
        areas = np.add.reduceat(flat[:, 0] * flat[after, 1] - flat[:, 1] * flat[after, 0], starts[:-1])
        normals = np.add.reduceat(np.cross(points, points[after]), starts[:-1])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        order = order[areas[order] > 0]
        faces = [flat[starts[k] : starts[k + 1]] for k in order]
        return faces, np.array(self._materials)[order], normals[order], np.concatenate([flat.min(0), flat.max(0)])


def _on_wall(corners: Sequence[np.ndarray], outline: np.ndarray) -> np.ndarray:
    """Places an outline (0 … 1) on the wall with corners bottom left, bottom right, top right, top left."""
    u, v = outline[:, :1], outline[:, 1:]
    left_bottom, right_bottom, right_top, left_top = corners
    return (1 - v) * ((1 - u) * left_bottom + u * right_bottom) + v * ((1 - u) * left_top + u * right_top)


def draw_mesh(
    draw: ImageDraw.ImageDraw,
    mesh: Mesh,
    view: View,
    palette: np.ndarray,
    *,
    foot: tuple[float, float],
    extent: tuple[float, float],
    light: np.ndarray,
    glow: bool,
) -> None:
    """Paints `mesh` with Lambert shading.

    Args:
        palette: float [6, 3], RGB 0 … 255 of each material.
        foot: pixel on which the middle of the mesh's lower edge stands.
        extent: width and height in pixels into which the whole mesh fits.
        light: float [3], where the sun stands in the mesh's axes, times its strength; ambient light is 1 minus that.
        glow: windows shine by themselves, as at night.
    """
    faces, materials, normals, (x0, y0, x1, y1) = mesh.project(view)
    scale = min(extent[0] / (x1 - x0), extent[1] / (y1 - y0))
    ambient = 1 - np.linalg.norm(light)
    shade = ambient + np.maximum(normals @ light, 0)[:, None]
    if glow:
        shade[materials == WINDOW] = 1
    colours = np.clip(palette[materials] * shade, 0, 255).astype(int).tolist()
    pixels = (np.concatenate(faces) - ((x0 + x1) / 2, y0)) * (scale, -scale) + foot
    corners = pixels.ravel().tolist()
    first = 0
    for face, colour in zip(faces, colours, strict=True):
        draw.polygon(corners[first : first + face.size], fill=tuple(colour))
        first += face.size
