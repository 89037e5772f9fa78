"""Facts of the contest Google Landmark Retrieval 2020. `zoo.signature` has the signature that its scorer calls.

Python 3.8 reads this file as well (`export/tf22/worker.py`).
"""

INDEX_IMAGES, QUERIES = 761_757, 117_577
IMAGES = INDEX_IMAGES + QUERIES
"""Images that the contest embeds with a submission, one per call: 879,334."""

HOURS = 12
"""Longest allowed run time of a submission's notebook."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats in which an image file is opened, whatever its suffix. Pillow would also try formats that start another program:
it hands PostScript to Ghostscript. Every `PIL.Image.open` of the project passes this list."""
