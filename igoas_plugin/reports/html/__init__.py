"""Pages of HTML that need nothing but their own file: templates, pictures within the page."""
