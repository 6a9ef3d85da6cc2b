"""What every entry needs: params, atomic files, locks, trackers, the terminal."""
