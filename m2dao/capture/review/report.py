"""Draws pictures that let a person judge a capture: regions, reprojected mesh, plots."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.cameras.bundle import Poses, project
from m2dao.capture.faces.mesh import face_triangles
from m2dao.plots import as_png, name_plot, new_plot
from m2dao.regions import REGIONS
from m2dao.timeline import FRAME_RATE, runs_of

REGION_COLOURS = {"facial": (255, 96, 96), "oral": (255, 224, 32), "head": (96, 96, 255), "torso": (96, 224, 96)}
MESH_COLOUR = (64, 255, 160)
_LABEL_HEIGHT = 20
_DIM = 0.45  # how much of the picture shows through its regions


def region_overlay(rgb: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The picture with every region in its colour and the background darkened: uint8 [H, W, 3].

    Args:
        rgb: uint8 [H, W, 3].
        masks: uint8 [H, W, 4], channels as in ``REGIONS``.
    """
    shares = masks.astype(np.float32) / 255.0
    colours = np.array([REGION_COLOURS[name] for name in REGIONS], dtype=np.float32)
    background = 1.0 - shares.sum(axis=-1, keepdims=True)
    tint = shares @ colours + background * rgb * 0.5
    return np.clip(_DIM * rgb + (1.0 - _DIM) * tint, 0, 255).astype(np.uint8)


def mesh_overlay(rgb: np.ndarray, canonical_landmarks: np.ndarray, viewmat: np.ndarray, K: np.ndarray) -> np.ndarray:
    """The picture with the mesh of the mean face drawn in the solved pose: uint8 [H, W, 3].

    Where mouth or lids are in another position than on average the mesh is off; nose, brows' upper side and temples
    must sit still on the face.

    Args:
        canonical_landmarks: float [478, 3], head space, metres.
        viewmat: float [4, 4], head space to camera.
        K: float [3, 3], pixels of ``rgb``.
    """
    pose = Poses(
        rotations=np.asarray(viewmat[None, :3, :3], np.float64),
        translations=np.asarray(viewmat[None, :3, 3], np.float64),
    )
    pixels = project(
        np.asarray(canonical_landmarks, np.float64), pose, float(K[0, 0]), np.asarray(K[:2, 2], np.float64)
    )[0]
    drawn = rgb.copy()
    corners = np.round((pixels[face_triangles()] - 0.5) * 16).astype(np.int32)
    cv2.polylines(drawn, list(corners), True, MESH_COLOUR, 1, cv2.LINE_AA, 4)
    return cv2.addWeighted(rgb, 0.4, drawn, 0.6, 0.0)


def landmark_overlay(rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The picture with the tracked landmarks [478, 2 or 3] (pixels) as dots: uint8 [H, W, 3]."""
    drawn = rgb.copy()
    for x, y in np.round((landmarks[:, :2] - 0.5) * 16).astype(int):
        cv2.circle(drawn, (int(x), int(y)), 16, MESH_COLOUR, -1, cv2.LINE_AA, 4)
    return drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetFrame:
    """One sampled frame of a contact sheet."""

    index: int
    rgb: np.ndarray  # uint8 [H, W, 3]
    masks: np.ndarray  # uint8 [H, W, 4]
    landmarks: np.ndarray  # float [478, 3], pixels
    viewmat: np.ndarray  # float [4, 4]


def contact_sheet(
    frames: list[SheetFrame],
    *,
    canonical_landmarks: np.ndarray,
    K: np.ndarray,
    plate: np.ndarray | None = None,
    tile: int = 256,
) -> np.ndarray:
    """Rows of sampled frames: picture, landmarks, regions, cut-out, reprojected mesh; then the plate.

    Args:
        frames: at least one, 4 to 8 make a handy sheet.
        canonical_landmarks: float [478, 3], metres.
        K: float [3, 3], pixels of the frames.
        plate: uint8 [H, W, 3] clean background; also behind the cut-outs' own row when given.
        tile: width of one picture in the sheet, pixels.

    Returns:
        uint8 [h, w, 3].
    """
    if not frames:
        raise ValueError("contact_sheet: expected at least one frame, got none")
    rows = [_sheet_row(frame, canonical_landmarks, K, tile) for frame in frames]
    if plate is not None:
        blank = np.zeros_like(rows[0])
        picture = _labelled(plate, "background plate", tile)
        blank[:, : picture.shape[1]] = picture
        rows.append(blank)
    return np.concatenate(rows, axis=0)


def _sheet_row(frame: SheetFrame, canonical_landmarks: np.ndarray, K: np.ndarray, tile: int) -> np.ndarray:
    alpha = np.minimum(frame.masks.astype(np.float32).sum(axis=-1, keepdims=True) / 255.0, 1.0)
    cut_out = (frame.rgb * alpha + np.array([255.0, 0.0, 255.0]) * (1.0 - alpha)).astype(np.uint8)
    pictures = (
        (frame.rgb, f"frame {frame.index}  {frame.index / FRAME_RATE:.2f} s"),
        (landmark_overlay(frame.rgb, frame.landmarks), "landmarks"),
        (region_overlay(frame.rgb, frame.masks), "regions"),
        (cut_out, "person"),
        (mesh_overlay(frame.rgb, canonical_landmarks, frame.viewmat, K), "mean face, solved pose"),
    )
    return np.concatenate([_labelled(picture, label, tile) for picture, label in pictures], axis=1)


def _labelled(picture: np.ndarray, label: str, tile: int) -> np.ndarray:
    """A picture scaled to the tile's width under a line of text."""
    height = round(tile * picture.shape[0] / picture.shape[1])
    small = cv2.resize(picture, (tile, height), interpolation=cv2.INTER_AREA)
    strip = np.zeros((_LABEL_HEIGHT, tile, 3), dtype=np.uint8)
    cv2.putText(strip, label, (4, _LABEL_HEIGHT - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
    return np.concatenate([strip, small], axis=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotData:
    """What the plots of a capture show."""

    viewmats: np.ndarray  # float [T, 4, 4]
    valid: np.ndarray  # bool [T]
    lip_opening: np.ndarray  # float [T], outer eye distances
    blink: np.ndarray  # float [T, 2], 0 open to 1 closed
    lag_frames: np.ndarray | None = None  # int [L], by how many frames the sound is moved
    lag_correlation: np.ndarray | None = None  # float [L], sound against lips at each lag
    sync_offset_frames: float | None = None


def plots(data: PlotData, *, title: str = "") -> bytes:
    """Plots of pose, lip opening, blink and the audio-video lag as one PNG file.

    Args:
        data: signals of all frames.
        title: written on top, e.g. the recording's name.

    Returns:
        The bytes of the PNG.
    """
    has_lag = data.lag_frames is not None and data.lag_correlation is not None
    figure = new_plot(11, 11 if has_lag else 9)
    axes = figure.subplots(5 if has_lag else 4, 1)
    name_plot(figure, title)
    time_s = np.arange(len(data.viewmats)) / FRAME_RATE
    _plot_pose(axes[0], axes[1], time_s, data.viewmats)
    axes[2].plot(time_s, data.lip_opening, linewidth=0.8)
    axes[2].set_ylabel("lip opening\n(outer eye distances)")
    axes[3].plot(time_s, data.blink, linewidth=0.8, label=["right eye", "left eye"])
    axes[3].set(ylabel="blink", ylim=(-0.05, 1.05))
    axes[3].legend(loc="upper right", fontsize="small")
    for axis in axes[:4]:
        _mark_gaps(axis, time_s, data.valid)
        axis.set(xlabel="time (s)", xlim=(0, max(time_s[-1], 1 / FRAME_RATE)))
        axis.grid(alpha=0.3)
    if has_lag:
        _plot_lag(axes[4], data)
    return as_png(figure, dpi=90)


def _plot_pose(angle_axis, shift_axis, time_s: np.ndarray, viewmats: np.ndarray) -> None:
    angles = Rotation.from_matrix(viewmats[:, :3, :3]).as_rotvec(degrees=True)
    angle_axis.plot(time_s, angles, linewidth=0.8, label=["nod (x)", "turn (y)", "tilt (z)"])
    angle_axis.set_ylabel("rotation (degrees)")
    shift = 1000.0 * (viewmats[:, :3, 3] - np.median(viewmats[:, :3, 3], axis=0))
    shift_axis.plot(time_s, shift, linewidth=0.8, label=["x", "y", "depth"])
    shift_axis.set_ylabel("translation (mm,\nfrom the median)")
    for axis in (angle_axis, shift_axis):
        axis.legend(loc="upper right", fontsize="small")


def _mark_gaps(axis, time_s: np.ndarray, valid: np.ndarray) -> None:
    """Shade the frames in which no face was found."""
    for begin, end in runs_of(~valid):
        axis.axvspan(
            time_s[begin] - 0.5 / FRAME_RATE, time_s[end - 1] + 0.5 / FRAME_RATE, color="red", alpha=0.2, linewidth=0
        )


def _plot_lag(axis, data: PlotData) -> None:
    axis.plot(data.lag_frames, data.lag_correlation, marker=".")
    axis.axvline(0, color="black", linewidth=0.8)
    if data.sync_offset_frames is not None:
        axis.axvline(
            data.sync_offset_frames, color="red", linewidth=0.8, label=f"offset {data.sync_offset_frames:g} frames"
        )
        axis.legend(loc="upper right", fontsize="small")
    axis.set(xlabel="sound moved by (frames)", ylabel="sound against lips\n(correlation)")
    axis.grid(alpha=0.3)
