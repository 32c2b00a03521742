"""What several exercises have in common: configuration, the shop's models, backing services."""
