"""One page that shows it all."""
