"""What every stage needs: the stage decorator, params, files, locks, provenance, signals, trackers."""
