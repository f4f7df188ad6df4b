"""Every page that this package makes: one template environment, one style, and the page of a search."""
