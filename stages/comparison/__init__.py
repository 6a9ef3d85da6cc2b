"""Compare experiments on one page (`make compare`), and a rerun with dvc.lock (`make verify`)."""
