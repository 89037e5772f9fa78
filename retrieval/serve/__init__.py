"""A page in the browser that finds the index images nearest to a photograph, and the same as JSON."""
