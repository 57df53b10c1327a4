"""Building images: from the text of a Dockerfile to layers and a configuration."""
