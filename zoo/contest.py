"""Numbers of the contest Google Landmark Retrieval 2020. `zoo.signature` has the signature that its scorer calls."""

INDEX_IMAGES, QUERIES = 761_757, 117_577
IMAGES = INDEX_IMAGES + QUERIES
"""Images that the contest embeds with a submission, one per call: 879,334."""

HOURS = 12
"""Longest allowed run time of a submission's notebook."""
