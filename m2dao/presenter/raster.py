"""Numba kernels that turn sheets of vertices and strands of hair into a supersampled picture.

A *sheet* is a grid of vertices ``[R, C]``. Sheets are shaded per vertex (their cells are about as small as a
sample, as in Cook, Carpenter and Catmull, "The Reyes image rendering architecture", 1987, section 2) and then
drawn as triangles against one depth buffer. All kernels release the GIL and touch nothing global, so frames can
be drawn by several threads and come out the same.

Letters: S side of the supersampled square, R rows, C columns, N strands, M points of a strand.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_FAST = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}, "error_model": "numpy"}


@njit(**_FAST)
def grid_normals(points, wrap, normals):
    """Write unit normals of a sheet, pointing to the side from which rows go down and columns go right.

    Args:
        points: f32 [R, C, 3].
        wrap: whether column ``C - 1`` repeats column 0 (a closed sheet).
        normals: f32 [R, C, 3], written.
    """
    num_rows, num_cols, _ = points.shape
    for r in range(num_rows):
        above = max(r - 1, 0)
        below = min(r + 1, num_rows - 1)
        for c in range(num_cols):
            left = c - 1
            right = c + 1
            if left < 0:
                left = num_cols - 2 if wrap else 0
            if right >= num_cols:
                right = 1 if wrap else num_cols - 1
            ax = points[r, right, 0] - points[r, left, 0]
            ay = points[r, right, 1] - points[r, left, 1]
            az = points[r, right, 2] - points[r, left, 2]
            bx = points[below, c, 0] - points[above, c, 0]
            by = points[below, c, 1] - points[above, c, 1]
            bz = points[below, c, 2] - points[above, c, 2]
            nx = by * az - bz * ay
            ny = bz * ax - bx * az
            nz = bx * ay - by * ax
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-20)
            normals[r, c, 0] = nx / length
            normals[r, c, 1] = ny / length
            normals[r, c, 2] = nz / length


@njit(**_FAST)
def to_camera(points, normals, weight, head, torso, out_points, out_normals):
    """Move a sheet by a blend of two rigid motions (linear blend skinning), normals too.

    Args:
        points, normals: f32 [R, C, 3] in head space.
        weight: f32 [R, C], 1 follows ``head`` and 0 follows ``torso``.
        head, torso: f32 [4, 4] head space to camera.
        out_points, out_normals: f32 [R, C, 3], written.
    """
    num_rows, num_cols, _ = points.shape
    for r in range(num_rows):
        for c in range(num_cols):
            w = weight[r, c]
            u = np.float32(1.0) - w
            x, y, z = points[r, c, 0], points[r, c, 1], points[r, c, 2]
            p, q, s = normals[r, c, 0], normals[r, c, 1], normals[r, c, 2]
            for i in range(3):
                m0 = w * head[i, 0] + u * torso[i, 0]
                m1 = w * head[i, 1] + u * torso[i, 1]
                m2 = w * head[i, 2] + u * torso[i, 2]
                m3 = w * head[i, 3] + u * torso[i, 3]
                out_points[r, c, i] = m0 * x + m1 * y + m2 * z + m3
                out_normals[r, c, i] = m0 * p + m1 * q + m2 * s


@njit(**_FAST)
def project(points, focal, centre, out):
    """Pinhole projection of camera-space points [..., 3] given as [R, C, 3]: writes x, y in samples and depth."""
    num_rows, num_cols, _ = points.shape
    for r in range(num_rows):
        for c in range(num_cols):
            z = points[r, c, 2]
            out[r, c, 0] = focal * points[r, c, 0] / z + centre
            out[r, c, 1] = focal * points[r, c, 1] / z + centre
            out[r, c, 2] = z


@njit(**_FAST)
def shade(points, normals, albedo, material, light, lights, colors):
    """Shade vertices of a sheet in linear light.

    Diffuse light wraps around by a different amount in each channel, which is the cheap stand-in for light
    scattered below the skin (Green, "Real-time approximations to subsurface scattering", GPU Gems, 2004, 16.2).

    Args:
        points, normals: f32 [R, C, 3], camera space.
        albedo: f32 [R, C, 3], linear.
        material: f32 [R, C, 3]: specular strength, specular exponent, scattering 0..1.
        light: f32 [R, C, 2]: openness to the surroundings 0..1, visibility of the key light 0..1.
        lights: f32 [4, 6]: rows key, fill, rim (direction to the light, colour), last row sky and ground colours.
        colors: f32 [R, C, 3], written.
    """
    num_rows, num_cols, _ = points.shape
    one = np.float32(1.0)
    zero = np.float32(0.0)
    half = np.float32(0.5)
    for r in range(num_rows):
        for c in range(num_cols):
            nx, ny, nz = normals[r, c, 0], normals[r, c, 1], normals[r, c, 2]
            px, py, pz = points[r, c, 0], points[r, c, 1], points[r, c, 2]
            inv = -one / np.sqrt(px * px + py * py + pz * pz)
            vx, vy, vz = px * inv, py * inv, pz * inv
            facing = nx * vx + ny * vy + nz * vz
            if facing <= np.float32(-0.25):
                continue  # turned away: never drawn
            open_ = light[r, c, 0]
            key_seen = light[r, c, 1]
            strength = material[r, c, 0]
            gloss = material[r, c, 1]
            scatter = material[r, c, 2]
            up = half - half * ny
            graze = one - max(facing, zero)
            fresnel = np.float32(0.25) + np.float32(0.75) * graze * graze * graze
            d0 = d1 = d2 = zero
            s0 = s1 = s2 = zero
            for k in range(3):
                lx, ly, lz = lights[k, 0], lights[k, 1], lights[k, 2]
                cosine = nx * lx + ny * ly + nz * lz
                seen = key_seen if k == 0 else open_
                w0 = scatter * np.float32(0.42)
                w1 = scatter * np.float32(0.18)
                w2 = scatter * np.float32(0.12)
                # scattered light also leaks into the shadow's edge, red farthest
                seen0 = seen + (one - seen) * seen * scatter * np.float32(0.6)
                d0 += lights[k, 3] * max((cosine + w0) / (one + w0), zero) * seen0
                d1 += lights[k, 4] * max((cosine + w1) / (one + w1), zero) * seen
                d2 += lights[k, 5] * max((cosine + w2) / (one + w2), zero) * seen
                if strength > zero and cosine > zero:
                    hx, hy, hz = lx + vx, ly + vy, lz + vz
                    hn = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                    if hn > zero:
                        lobe = strength * fresnel * seen * (gloss + np.float32(8.0)) * np.float32(0.04) * hn**gloss
                        s0 += lights[k, 3] * lobe
                        s1 += lights[k, 4] * lobe
                        s2 += lights[k, 5] * lobe
            # occluded places on skin stay warm: light that arrives has bounced off skin
            warm = one - (one - open_) * scatter * np.float32(0.25)
            colors[r, c, 0] = albedo[r, c, 0] * (d0 + open_ * (up * lights[3, 0] + (one - up) * lights[3, 3])) + s0
            colors[r, c, 1] = albedo[r, c, 1] * (d1 + open_ * warm * (up * lights[3, 1] + (one - up) * lights[3, 4])) + s1
            colors[r, c, 2] = albedo[r, c, 2] * (d2 + open_ * warm * (up * lights[3, 2] + (one - up) * lights[3, 5])) + s2


@njit(**_FAST)
def _triangle(a, b, c, ca, cb, cc, region, depth, colors, regions):
    side = depth.shape[0]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area <= np.float32(1e-9):
        return
    x_low = max(int(np.ceil(min(a[0], b[0], c[0]) - np.float32(0.5))), 0)
    x_high = min(int(np.floor(max(a[0], b[0], c[0]) - np.float32(0.5))), side - 1)
    y_low = max(int(np.ceil(min(a[1], b[1], c[1]) - np.float32(0.5))), 0)
    y_high = min(int(np.floor(max(a[1], b[1], c[1]) - np.float32(0.5))), side - 1)
    inv = np.float32(1.0) / area
    for y in range(y_low, y_high + 1):
        fy = np.float32(y) + np.float32(0.5)
        for x in range(x_low, x_high + 1):
            fx = np.float32(x) + np.float32(0.5)
            wa = ((b[0] - fx) * (c[1] - fy) - (b[1] - fy) * (c[0] - fx)) * inv
            wb = ((c[0] - fx) * (a[1] - fy) - (c[1] - fy) * (a[0] - fx)) * inv
            wc = np.float32(1.0) - wa - wb
            if wa < np.float32(-1e-4) or wb < np.float32(-1e-4) or wc < np.float32(-1e-4):
                continue
            z = wa * a[2] + wb * b[2] + wc * c[2]
            if z < depth[y, x]:
                depth[y, x] = z
                regions[y, x] = region
                for i in range(3):
                    colors[y, x, i] = wa * ca[i] + wb * cb[i] + wc * cc[i]


@njit(**_FAST)
def draw_sheet(projected, shaded, region, skip_row, depth, colors, regions):
    """Draw a sheet's front faces into the sample buffers.

    Args:
        projected: f32 [R, C, 3]: x, y in samples, depth.
        shaded: f32 [R, C, 3], linear.
        region: u8 [R, C], number of the motion region, 0 for cells that are not drawn.
        skip_row: u8 [R], 1 where the cells between row ``r`` and ``r + 1`` are a gap (open mouth, open eye).
        depth: f32 [S, S]; colors: f32 [S, S, 3]; regions: u8 [S, S]; all three updated.
    """
    num_rows, num_cols, _ = projected.shape
    for r in range(num_rows - 1):
        if skip_row[r]:
            continue
        for c in range(num_cols - 1):
            which = region[r, c]
            if which == 0:
                continue
            p, q = projected[r, c], projected[r, c + 1]
            s, t = projected[r + 1, c], projected[r + 1, c + 1]
            if p[2] <= np.float32(0.05) or t[2] <= np.float32(0.05):
                continue
            _triangle(p, q, s, shaded[r, c], shaded[r, c + 1], shaded[r + 1, c], which, depth, colors, regions)
            _triangle(q, t, s, shaded[r, c + 1], shaded[r + 1, c + 1], shaded[r + 1, c], which, depth, colors, regions)


@njit(**_FAST)
def draw_strands(points, tint, base, seen, region, lights, focal, centre, bias, depth, colors, regions):
    """Draw hair strands as one-sample-wide lines.

    Shading follows Kajiya and Kay, "Rendering fur with three dimensional textures", 1989, section 4: light depends
    on the angle to the strand's direction, not on a normal.

    Args:
        points: f32 [N, M, 3], camera space, root first.
        tint: f32 [N], brightness of a strand.
        base: f32 [3], linear albedo.
        seen: f32 [N, M], openness to light 0..1.
        region: number of the motion region.
        lights: as in ``shade``.
        focal, centre: of the sample grid.
        bias: metres by which a strand may lie behind what is drawn and still be seen.
        depth, colors, regions: sample buffers, updated.
    """
    side = depth.shape[0]
    num_strands, num_points, _ = points.shape
    zero = np.float32(0.0)
    one = np.float32(1.0)
    for n in range(num_strands):
        for m in range(num_points - 1):
            ax, ay, az = points[n, m, 0], points[n, m, 1], points[n, m, 2]
            bx, by, bz = points[n, m + 1, 0], points[n, m + 1, 1], points[n, m + 1, 2]
            tx, ty, tz = bx - ax, by - ay, bz - az
            length = np.sqrt(tx * tx + ty * ty + tz * tz)
            if length < np.float32(1e-7):
                continue
            tx /= length
            ty /= length
            tz /= length
            inv = -one / np.sqrt(ax * ax + ay * ay + az * az)
            vx, vy, vz = ax * inv, ay * inv, az * inv
            tv = tx * vx + ty * vy + tz * vz
            sin_v = np.sqrt(max(one - tv * tv, zero))
            open_ = seen[n, m]
            r = g = b = zero
            for k in range(3):
                tl = tx * lights[k, 0] + ty * lights[k, 1] + tz * lights[k, 2]
                sin_l = np.sqrt(max(one - tl * tl, zero))
                along = max(-tl * tv + sin_l * sin_v, zero)
                diffuse = np.float32(0.55) * sin_l
                glint = np.float32(0.10) * along**28
                second = np.float32(0.5) * along**8
                r += lights[k, 3] * (base[0] * (diffuse + second) + glint)
                g += lights[k, 4] * (base[1] * (diffuse + second) + glint)
                b += lights[k, 5] * (base[2] * (diffuse + second) + glint)
            gain = tint[n] * open_
            r = gain * (r + base[0] * np.float32(0.5) * (lights[3, 0] + lights[3, 3]))
            g = gain * (g + base[1] * np.float32(0.5) * (lights[3, 1] + lights[3, 4]))
            b = gain * (b + base[2] * np.float32(0.5) * (lights[3, 2] + lights[3, 5]))
            x0 = focal * ax / az + centre
            y0 = focal * ay / az + centre
            x1 = focal * bx / bz + centre
            y1 = focal * by / bz + centre
            steps = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
            for i in range(steps):
                f = np.float32(i) / np.float32(steps)
                x = int(x0 + (x1 - x0) * f)
                y = int(y0 + (y1 - y0) * f)
                if x < 0 or y < 0 or x >= side or y >= side:
                    continue
                z = az + (bz - az) * f
                if z - bias < depth[y, x]:
                    depth[y, x] = min(z, depth[y, x])
                    colors[y, x, 0] = r
                    colors[y, x, 1] = g
                    colors[y, x, 2] = b
                    regions[y, x] = region


@njit(**_FAST)
def resolve(colors, regions, backdrop, gain, rgb, masks):
    """Filter the samples down to the picture and the soft region masks.

    Each output pixel is a tent over 4x4 samples (2x2 samples per pixel), about what a lens and sensor do.

    Args:
        colors: f32 [2H+2, 2H+2, 3], linear, with one sample of margin on every side.
        regions: u8 [2H+2, 2H+2]: 0 background, 1 facial, 2 oral, 3 head, 4 torso.
        backdrop: f32 [H, H, 3], linear.
        gain: exposure.
        rgb: u8 [H, H, 3], written. masks: u8 [H, H, 4], written, rounded down so that they never exceed 255 together.
    """
    side = rgb.shape[0]
    tap = np.array([1.0, 3.0, 3.0, 1.0], np.float32) / np.float32(8.0)
    for y in range(side):
        for x in range(side):
            r = g = b = np.float32(0.0)
            f1 = f2 = f3 = f4 = np.float32(0.0)
            for j in range(4):
                for i in range(4):
                    w = tap[j] * tap[i]
                    which = regions[2 * y + j, 2 * x + i]
                    if which == 0:
                        continue
                    # bright glints are compressed before filtering, or they would alias
                    r += w * min(colors[2 * y + j, 2 * x + i, 0], np.float32(1.5))
                    g += w * min(colors[2 * y + j, 2 * x + i, 1], np.float32(1.5))
                    b += w * min(colors[2 * y + j, 2 * x + i, 2], np.float32(1.5))
                    if which == 1:
                        f1 += w
                    elif which == 2:
                        f2 += w
                    elif which == 3:
                        f3 += w
                    else:
                        f4 += w
            rest = np.float32(1.0) - f1 - f2 - f3 - f4
            masks[y, x, 0] = np.uint8(f1 * np.float32(255.0))
            masks[y, x, 1] = np.uint8(f2 * np.float32(255.0))
            masks[y, x, 2] = np.uint8(f3 * np.float32(255.0))
            masks[y, x, 3] = np.uint8(f4 * np.float32(255.0))
            for i in range(3):
                value = (r if i == 0 else (g if i == 1 else b)) * gain + rest * backdrop[y, x, i]
                # filmic shoulder, then the sRGB curve by its power approximation
                value = value * (np.float32(1.0) + value * np.float32(0.25)) / (np.float32(1.0) + value * np.float32(0.62))
                value = max(value, np.float32(0.0)) ** np.float32(1.0 / 2.2)
                rgb[y, x, i] = np.uint8(min(value, np.float32(1.0)) * np.float32(255.0) + np.float32(0.5))
