"""Numba kernels that turn sheets of vertices and strands of hair into a supersampled picture.

A *sheet* is a grid of vertices ``[R, C]``. Sheets are shaded per vertex (their cells are about as small as a
sample, as in Cook, Carpenter and Catmull, "The Reyes image rendering architecture", 1987, section 2) and then
drawn as triangles against one depth buffer. All kernels release the GIL and touch nothing global, so frames can
be drawn by several threads and come out the same.

Letters: S side of the supersampled square, R rows, C columns, N strands, M points of a strand.
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel

_FAST = {
    "cache": True,
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "error_model": "numpy",
}


@kernel(**_FAST)
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


@kernel(**_FAST)
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


@kernel(**_FAST)
def project(points, focal, centre, out):
    """Pinhole projection of camera-space points [R, C, 3]: writes x, y in samples and depth."""
    num_rows, num_cols, _ = points.shape
    for r in range(num_rows):
        for c in range(num_cols):
            z = points[r, c, 2]
            out[r, c, 0] = focal * points[r, c, 0] / z + centre
            out[r, c, 1] = focal * points[r, c, 1] / z + centre
            out[r, c, 2] = z


@kernel(**_FAST)
def shade(points, normals, albedo, material, light, lights, colors):
    """Shade vertices of a sheet in linear light.

    Diffuse light wraps around by a different amount in each channel, which is the cheap stand-in for light
    scattered below the skin (Green, "Real-time approximations to subsurface scattering", GPU Gems, 2004, 16.2). The
    specular lobe is the rational one of Schlick, "A fast alternative to Phong's specular model", Graphics Gems IV,
    1994, squared so that its foot is as short as that of a power.

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
                    if hn > np.float32(0.6):  # below, the lobe is nothing at the exponents in use
                        steep = gloss * np.float32(1.7)
                        lobe = hn / (steep - steep * hn + hn)
                        lobe *= lobe * strength * fresnel * seen * (gloss + np.float32(8.0)) * np.float32(0.04)
                        s0 += lights[k, 3] * lobe
                        s1 += lights[k, 4] * lobe
                        s2 += lights[k, 5] * lobe
            # occluded places on skin stay warm: light that arrives has bounced off skin
            warm = one - (one - open_) * scatter * np.float32(0.25)
            colors[r, c, 0] = albedo[r, c, 0] * (d0 + open_ * (up * lights[3, 0] + (one - up) * lights[3, 3])) + s0
            colors[r, c, 1] = (
                albedo[r, c, 1] * (d1 + open_ * warm * (up * lights[3, 1] + (one - up) * lights[3, 4])) + s1
            )
            colors[r, c, 2] = (
                albedo[r, c, 2] * (d2 + open_ * warm * (up * lights[3, 2] + (one - up) * lights[3, 5])) + s2
            )


@kernel(**_FAST)
def clear(depth, colors, regions):
    """Empty the sample buffers."""
    depth[:] = np.float32(1e9)
    colors[:] = np.float32(0.0)
    regions[:] = 0


@helper(inline="always")
def _triangle(ax, ay, az, bx, by, bz, cx, cy, cz, ca, cb, cc, region, depth, colors, regions):
    side = depth.shape[0]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area > np.float32(1e-9):
        half = np.float32(0.5)
        x_low = max(int(np.ceil(min(ax, bx, cx) - half)), 0)
        x_high = min(int(np.floor(max(ax, bx, cx) - half)), side - 1)
        y_low = max(int(np.ceil(min(ay, by, cy) - half)), 0)
        y_high = min(int(np.floor(max(ay, by, cy) - half)), side - 1)
        inv = np.float32(1.0) / area
        low = np.float32(-1e-4)
        for y in range(y_low, y_high + 1):
            fy = np.float32(y) + half
            for x in range(x_low, x_high + 1):
                fx = np.float32(x) + half
                wa = ((bx - fx) * (cy - fy) - (by - fy) * (cx - fx)) * inv
                wb = ((cx - fx) * (ay - fy) - (cy - fy) * (ax - fx)) * inv
                wc = np.float32(1.0) - wa - wb
                if wa >= low and wb >= low and wc >= low:
                    z = wa * az + wb * bz + wc * cz
                    if z < depth[y, x]:
                        depth[y, x] = z
                        regions[y, x] = region
                        colors[y, x, 0] = wa * ca[0] + wb * cb[0] + wc * cc[0]
                        colors[y, x, 1] = wa * ca[1] + wb * cb[1] + wc * cc[1]
                        colors[y, x, 2] = wa * ca[2] + wb * cb[2] + wc * cc[2]


@kernel(**_FAST)
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
    far = np.float32(depth.shape[0])
    for r in range(num_rows - 1):
        if skip_row[r]:
            continue
        for c in range(num_cols - 1):
            which = region[r, c]
            px, py, pz = projected[r, c, 0], projected[r, c, 1], projected[r, c, 2]
            qx, qy, qz = projected[r, c + 1, 0], projected[r, c + 1, 1], projected[r, c + 1, 2]
            sx, sy, sz = projected[r + 1, c, 0], projected[r + 1, c, 1], projected[r + 1, c, 2]
            tx, ty, tz = projected[r + 1, c + 1, 0], projected[r + 1, c + 1, 1], projected[r + 1, c + 1, 2]
            first = (qx - px) * (sy - py) - (qy - py) * (sx - px)
            second = (tx - qx) * (sy - qy) - (ty - qy) * (sx - qx)
            if which == 0 or (first <= np.float32(1e-9) and second <= np.float32(1e-9)):
                continue  # turned away
            if pz <= np.float32(0.05) or tz <= np.float32(0.05) or min(py, qy) > far or max(sy, ty) < np.float32(0.0):
                continue
            cp, cq, cs, ct = shaded[r, c], shaded[r, c + 1], shaded[r + 1, c], shaded[r + 1, c + 1]
            _triangle(px, py, pz, qx, qy, qz, sx, sy, sz, cp, cq, cs, which, depth, colors, regions)
            _triangle(qx, qy, qz, tx, ty, tz, sx, sy, sz, cq, ct, cs, which, depth, colors, regions)


@helper(inline="always")
def _strand_light(tx, ty, tz, vx, vy, vz, base, lights, k):
    zero = np.float32(0.0)
    one = np.float32(1.0)
    tv = tx * vx + ty * vy + tz * vz
    tl = tx * lights[k, 0] + ty * lights[k, 1] + tz * lights[k, 2]
    sin_l = np.sqrt(max(one - tl * tl, zero))
    along = max(sin_l * np.sqrt(max(one - tv * tv, zero)) - tl * tv, zero)
    p4 = along * along * along * along
    p8 = p4 * p4
    body = np.float32(0.55) * sin_l + np.float32(0.5) * p8
    # dark hair shows less of the white highlight than its gloss would give: its strands scatter it
    glint = (np.float32(0.02) + np.float32(0.7) * (base[0] + base[1] + base[2]) / np.float32(3.0)) * p8 * p8 * p8 * p4
    return (
        lights[k, 3] * (base[0] * body + glint),
        lights[k, 4] * (base[1] * body + glint),
        lights[k, 5] * (base[2] * body + glint),
    )


@kernel(**_FAST)
def draw_strands(
    origins, offsets, tint, base, seen, region, matrix, lights, focal, centre, bias, depth, colors, regions
):
    """Draw hair strands as one-sample-wide lines.

    Shading follows Kajiya and Kay, "Rendering fur with three dimensional textures", 1989, section 4: light depends
    on the angle to the strand's direction, not on a normal.

    Args:
        origins: f32 [N, 3], head space. offsets: f32 [N, M, 3], points of the strand from there, root first.
        tint: f32 [N], brightness of a strand.
        base: f32 [3], linear albedo.
        seen: f32 [N, M], openness to light 0..1.
        region: number of the motion region.
        matrix: f32 [4, 4], head space to camera.
        lights: as in ``shade``.
        focal, centre: of the sample grid.
        bias: metres by which a strand may lie behind what is drawn and still be seen.
        depth, colors, regions: sample buffers, updated.
    """
    side = depth.shape[0]
    num_strands, num_points, _ = offsets.shape
    one = np.float32(1.0)
    half = np.float32(0.5)
    for n in range(num_strands):
        ax = ay = az = x0 = y0 = np.float32(0.0)
        for m in range(num_points):
            px = origins[n, 0] + offsets[n, m, 0]
            py = origins[n, 1] + offsets[n, m, 1]
            pz = origins[n, 2] + offsets[n, m, 2]
            bx = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]
            by = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]
            bz = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]
            inv_z = focal / bz
            x1 = bx * inv_z + centre
            y1 = by * inv_z + centre
            # the line is drawn from the point before to this one, unless what is drawn hides both ends
            steps = int(max(abs(x1 - x0), abs(y1 - y0))) + 1 if m > 0 else 0
            if steps > 0:
                ix, iy, jx, jy = int(x0), int(y0), int(x1), int(y1)
                inside = min(ix, iy, jx, jy) >= 0 and max(ix, iy, jx, jy) < side
                if not inside or (az - bias >= depth[iy, ix] and bz - bias >= depth[jy, jx]):
                    steps = 0
            if steps > 0:
                tx, ty, tz = bx - ax, by - ay, bz - az
                inv = one / (np.sqrt(tx * tx + ty * ty + tz * tz) + np.float32(1e-9))
                tx, ty, tz = tx * inv, ty * inv, tz * inv
                inv = -one / np.sqrt(ax * ax + ay * ay + az * az)
                vx, vy, vz = ax * inv, ay * inv, az * inv
                r = base[0] * half * (lights[3, 0] + lights[3, 3])
                g = base[1] * half * (lights[3, 1] + lights[3, 4])
                b = base[2] * half * (lights[3, 2] + lights[3, 5])
                for k in range(3):
                    kr, kg, kb = _strand_light(tx, ty, tz, vx, vy, vz, base, lights, k)
                    r += kr
                    g += kg
                    b += kb
                gain = tint[n] * seen[n, m]
                share = one / np.float32(steps)
                for i in range(steps):
                    f = np.float32(i) * share
                    x = int(x0 + (x1 - x0) * f)
                    y = int(y0 + (y1 - y0) * f)
                    z = az + (bz - az) * f
                    if z - bias < depth[y, x]:
                        depth[y, x] = min(z, depth[y, x])
                        colors[y, x, 0] = r * gain
                        colors[y, x, 1] = g * gain
                        colors[y, x, 2] = b * gain
                        regions[y, x] = region
            ax, ay, az, x0, y0 = bx, by, bz, x1, y1


@kernel(**_FAST)
def resolve(colors, regions, backdrop, curve, rgb, masks):
    """Filter the samples down to the picture and the soft region masks.

    Each output pixel is a tent over 4x4 samples (2x2 samples per pixel), about what a lens and sensor do.

    Args:
        colors: f32 [2H+2, 2H+2, 3], linear, with one sample of margin on every side.
        regions: u8 [2H+2, 2H+2]: 0 background, 1 facial, 2 oral, 3 head, 4 torso.
        backdrop: f32 [H, H, 3], linear.
        curve: u8 [Q], the byte for a linear value of ``2 * index / Q``.
        rgb: u8 [H, H, 3], written. masks: u8 [H, H, 4], written, rounded down so that they never exceed 255 together.
    """
    side = rgb.shape[0]
    taps = np.array([1.0, 3.0, 3.0, 1.0], np.float32) / np.float32(8.0)
    bins = np.float32(len(curve) / 2.0)
    top = len(curve) - 1
    limit = np.float32(1.5)  # bright glints are compressed before filtering, or they would alias
    line = np.empty((2 * side + 2, 7), np.float32)  # colour, then the shares of the four regions
    for y in range(side):
        first, last = 2 * side + 2, -1  # samples of this row that show the presenter
        for x in range(2 * side + 2):
            if regions[2 * y, x] | regions[2 * y + 1, x] | regions[2 * y + 2, x] | regions[2 * y + 3, x]:
                first = min(first, x)
                last = x
        for x in range(max(first - 4, 0), min(last + 5, 2 * side + 2)):
            for i in range(7):
                line[x, i] = np.float32(0.0)
            for j in range(4):
                which = regions[2 * y + j, x]
                if which > 0:
                    w = taps[j]
                    line[x, 0] += w * min(colors[2 * y + j, x, 0], limit)
                    line[x, 1] += w * min(colors[2 * y + j, x, 1], limit)
                    line[x, 2] += w * min(colors[2 * y + j, x, 2], limit)
                    line[x, 2 + which] += w
        for x in range(side):
            if 2 * x + 3 < first or 2 * x > last:
                for i in range(3):
                    rgb[y, x, i] = curve[min(int(backdrop[y, x, i] * bins), top)]
                for i in range(4):
                    masks[y, x, i] = 0
                continue
            rest = np.float32(1.0)
            for i in range(4):
                share = np.float32(0.0)
                for j in range(4):
                    share += taps[j] * line[2 * x + j, 3 + i]
                masks[y, x, i] = np.uint8(share * np.float32(255.0))
                rest -= share
            for i in range(3):
                value = rest * backdrop[y, x, i]
                for j in range(4):
                    value += taps[j] * line[2 * x + j, i]
                rgb[y, x, i] = curve[min(max(int(value * bins), 0), top)]


def tone_curve(exposure: float, bins: int = 8192) -> np.ndarray:
    """Bytes for linear values 0..2: exposure, a filmic shoulder, and sRGB by its 2.2 power approximation."""
    value = (np.arange(bins) + 0.5) * 2.0 / bins * exposure
    value = value * (1.0 + 0.25 * value) / (1.0 + 0.62 * value)
    return np.round(np.clip(value, 0.0, 1.0) ** (1.0 / 2.2) * 255.0).astype(np.uint8)
