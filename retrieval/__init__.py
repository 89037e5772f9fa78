"""Data sets in the Google Landmarks v2 layout, demo data, embeddings on disk, nearest-neighbour search and mAP@100."""
