"""HTML pages of this package: the template environment and style of all pages, and the page of a search."""
