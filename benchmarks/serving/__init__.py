"""What the HTTP layer costs beside the least that the same framework can do."""
