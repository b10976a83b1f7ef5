"""The HTTP service. Needs the extra `hesse[service]`."""
