"""The demo's steps from data to submission, as processes."""
