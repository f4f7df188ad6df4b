"""HTML pages: templates and style of all pages, and the page of search results."""
