"""What a container, image, network or volume does: one module per noun."""
