"""Show the results of all stages on one page."""
