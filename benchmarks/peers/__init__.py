"""Side by side with the tools that people would use instead: the same network, the same images, one table."""
