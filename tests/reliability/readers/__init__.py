"""One module per reader of the project; each defines `READER`."""
