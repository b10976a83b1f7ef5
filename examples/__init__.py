"""Programs that use Hesse as its users do; each is run by a test."""
