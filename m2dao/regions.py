"""Motion regions and face landmarks: their names and numbers, each once.

A region mask is uint8 [H, W, 4], one channel a region in the order of ``REGIONS``; what is missing to 255 is
background. Landmarks are those of the face tracker's mesh: 0..467 lie on the skin, 468..472 and 473..477 are the two
irises. "Right" and "left" are the person's own.
"""

from __future__ import annotations

REGIONS = ("facial", "oral", "head", "torso")
FACIAL, ORAL, HEAD, TORSO = range(len(REGIONS))  # channels of a region mask
WHOLE_HEAD = slice(FACIAL, TORSO)  # the channels that move with the skull

NUM_LANDMARKS = 478
NUM_BLENDSHAPES = 52
IRIS = slice(468, NUM_LANDMARKS)
RIGHT_IRIS, LEFT_IRIS = 468, 473  # centres

RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_EYE_OUTER, RIGHT_EYE_INNER = 33, 133  # corners
LEFT_EYE_OUTER, LEFT_EYE_INNER = 263, 362
RIGHT_LID_PAIRS = ((159, 145), (158, 153), (160, 144))  # upper, lower
LEFT_LID_PAIRS = ((386, 374), (385, 380), (387, 373))

RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)  # a ring, as are the contours below
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)

INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIP_PAIRS = ((13, 14), (82, 87), (312, 317))  # upper, lower; the middle first
INNER_LIP_CORNERS = (78, 308)
OUTER_LIP_CORNERS = (61, 291)
OUTER_LIP_MIDDLES = (0, 17)  # upper, lower

FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
FOREHEAD, BETWEEN_BROWS, CHIN, NOSE_BASE = 10, 9, 152, 2
BESIDE_CHIN = (148, 377)

# Where an identity asks a motion field what it does. The order is part of the stored networks.
EYE_PROBES = (
    *(RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER),
    *(*RIGHT_LID_PAIRS[0], *LEFT_LID_PAIRS[0]),
    *(*RIGHT_BROW[:5:2], *LEFT_BROW[:5:2]),
)
LIP_PROBES = (*OUTER_LIP_MIDDLES, *OUTER_LIP_CORNERS, 84, 314)  # the last two halfway left and right below
# Points that say where a mouth is: both contours with their corners.
AROUND_MOUTH = (0, 13, 14, 17, 61, 291, 78, 308, 37, 267, 84, 314)
