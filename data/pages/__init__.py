"""What the pages for people share: their style, their charts, and the parts of their templates."""
