"""Jobs in containers: Docker, or Podman behind the same API."""
