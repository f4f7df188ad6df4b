"""Video files: finding them and encoding them anew."""
