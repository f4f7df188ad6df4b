"""Video files: finding, cutting, re-encoding and rendering them."""
