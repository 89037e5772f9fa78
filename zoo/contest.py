"""Google Landmark Retrieval 2020: its numbers. The served signature that it calls is in `zoo.signature`."""

INDEX_IMAGES, QUERIES = 761_757, 117_577
IMAGES = INDEX_IMAGES + QUERIES
"""Images that the contest embeds with a submission, one per call: 879,334."""

HOURS = 12
"""Longest run of a submission's notebook."""
